"""Talking with a Cyton while it does not stream: text up to `$$$`, and who answers. No samples.

Runs in: acquire process, pull thread.
"""

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.base import Transport

END = b"$$$"
_QUIET_S = 0.15
_DRAIN_S = 2.0
_REPLY_S = 1.0
_HEARD = 40  # characters of what another device said


class Board:
    """`port` and `device` are for sentences."""

    def __init__(self, transport: Transport, *, clock: Clock, port: str, device: str) -> None:
        self._transport = transport
        self._clock = clock
        self._port = port
        self._device = device

    def drain(self) -> list[tuple[bytes, int]]:
        """Read until it is quiet: what came, and when."""
        until = self._clock.monotonic_ns() + round(_DRAIN_S * 1e9)
        came: list[tuple[bytes, int]] = []
        while data := self._transport.read(_QUIET_S):
            now = self._clock.monotonic_ns()
            came.append((data, now))
            if now > until:
                break
        return came

    def banner(self, answer_s: float) -> str:
        """Reset the board; DeviceError if it is no Cyton."""
        self._transport.write(b"v")
        banner = self._reply(answer_s)
        self._check_identity(banner)
        return banner

    def ask(self, command: str) -> str:
        """DeviceError `refused`, `no_answer`."""
        self._transport.write(command.encode("latin-1"))
        reply = self._reply(_REPLY_S)
        if reply.lstrip().startswith("Failure"):
            raise DeviceError(
                "refused",
                f"{self._device} refuses the command {command!r}",
                why=_shown(reply),
                remedy="Switch the board off and on; if this repeats, update its firmware to 3.1.2",
                transient=True,
            )
        return reply

    def _reply(self, within_s: float) -> str:
        got = bytearray()
        until = self._clock.monotonic_ns() + round(within_s * 1e9)
        while END not in got:
            left = (until - self._clock.monotonic_ns()) / 1e9
            if left <= 0 or len(got) > 65_536:
                raise self._no_answer(bytes(got), within_s)
            got += self._transport.read(left)
        return got[: got.index(END)].decode("ascii", "replace")

    def _check_identity(self, banner: str) -> None:
        if banner.lstrip().startswith("Failure"):
            raise DeviceError(
                "no_board",
                f"the dongle on {self._port} answers, but no board behind it",
                why=_shown(banner),
                remedy="Switch the board on, near the dongle, and charge its battery",
                transient=True,
            )
        if "OpenBCI" not in banner or "Ganglion" in banner:
            raise self._wrong(banner)

    def _no_answer(self, got: bytes, within_s: float) -> DeviceError:
        if got.strip():
            return self._wrong(got.decode("ascii", "replace"))
        return DeviceError(
            "no_answer",
            f"the Cyton on {self._port} does not answer",
            why=f"nothing came within {within_s:g} s",
            remedy="Check that the dongle is in this port and the board is switched on",
            transient=True,
        )

    def _wrong(self, answer: str) -> DeviceError:
        answered = _heard(answer)
        return DeviceError(
            "wrong_device",
            f"{self._port} is not the Cyton {self._device!r}",
            why=f"it answers {answered}",
            remedy="Plug the Cyton's dongle into this port, or correct `port` or `kind`",
            transient=True,
            answered=answered,
        )


def after(text: str, label: str) -> str:
    """The rest of the line that has this label; "" without it."""
    _, found, rest = text.partition(label)
    return rest.splitlines()[0].strip() if found and rest else ""


def _shown(text: str) -> str:
    """What a board said, fit for a sentence."""
    printable = "".join(c if c.isascii() and c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:80]


def _heard(text: str) -> str:
    """What somebody else said, who may not speak in words at all."""
    n_text = sum(c.isascii() and (c.isprintable() or c.isspace()) for c in text)
    shown = _shown(text)[:_HEARD]
    return repr(shown) if shown and 2 * n_text > len(text) else "bytes that are no text"
