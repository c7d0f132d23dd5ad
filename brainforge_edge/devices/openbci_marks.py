"""Markers that travel through a Cyton: a character goes there, and comes back with the sample. No I/O.

Runs in: acquire process; `make` in a command's thread, `named` in the pull thread.
"""

from itertools import cycle

from brainforge_edge.core.block import Marker
from brainforge_edge.core.errors import DeviceError

# One byte each; digits and letters, as firmware 3.1.2 takes any.
_CHARACTERS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_TEXT = 1000


class Marks:
    """Remembers which text a character stands for until that comes round again."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._next = cycle(_CHARACTERS)
        self._texts: dict[int, str] = {}

    def make(self, text: str) -> bytes:
        """What to send for this text; DeviceError `bad_argument`."""
        if not text or len(text) > _MOST_TEXT:
            raise DeviceError(
                "bad_argument",
                "the command was not done",
                why=f"description must be a text of 1 to {_MOST_TEXT} characters",
                remedy="Correct that argument; brainforge_edge/docs/devices.md lists them",
            )
        character = next(self._next)
        self._texts[ord(character)] = text
        return b"`" + character.encode("ascii")

    def named(self, came: list[Marker]) -> list[Marker]:
        """With their texts; a value that was not sent from here (a button) by its number."""
        return [
            Marker(
                marker.t_ns,
                marker.duration_s,
                f"{self._device}: {self._texts.get(int(marker.description), marker.description)}",
            )
            for marker in came
        ]
