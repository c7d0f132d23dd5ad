"""Commands to a Muse and its replies: length-prefixed ASCII there, JSON in pieces back.

Replies to two commands mix, so one is asked at a time.
Runs in: acquire process, pull thread; while it streams, `ask` also in its main thread.
"""

import json
import threading
from collections.abc import Callable
from typing import Any

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.gatt import GattLink, Packet
from brainforge_edge.devices.muse_decoder import CONTROL

_MOST_BYTES = 4096
_REPLY_S = 2.0
_TRIES = 3
_TOLD_S = 0.5
_KEPT = ("sn", "hn", "ps")


def command(text: str) -> bytes:
    """`[length][ASCII][newline]`; the length counts the newline, not itself."""
    body = text.encode("ascii") + b"\n"
    return bytes([len(body)]) + body


class Replies:
    """Puts the pieces together. What is no JSON object is counted in `garbage` and left out."""

    def __init__(self) -> None:
        self.garbage = 0
        self._text = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Replies that this notification completes: byte 0 says how many of the others count."""
        if not data or data[0] > len(data) - 1:
            self.garbage += 1
            return []
        self._text += data[1 : 1 + data[0]]
        found = []
        while b"}" in self._text:
            text, _, self._text = self._text.partition(b"}")
            start = text.rfind(b"{")
            try:
                reply = json.loads(text[max(0, start) :] + b"}")
            except (ValueError, RecursionError):  # nested too deeply
                self.garbage += 1
                continue
            found.append(reply)
        if len(self._text) > _MOST_BYTES:
            self.garbage += 1
            self._text = b""
        return found


class Control:
    """The control characteristic of one headset. `note` is told what it says of itself."""

    def __init__(
        self,
        link: GattLink,
        *,
        device: str,
        clock: Clock,
        note: Callable[[dict[str, Any]], None],
    ) -> None:
        self.is_streaming = False  # the pull thread reads the link, and hands replies to `take`
        self._link = link
        self._device = device
        self._clock = clock
        self._note = note
        self._replies = Replies()
        self._heard: list[dict[str, Any]] = []
        self._answered = threading.Condition()
        self._asking = threading.Lock()
        self._early: list[Packet] = []
        self._unasked = 0  # replies to come that nobody waits for

    def early(self) -> list[Packet]:
        """Data that came while an answer was waited for."""
        early, self._early = self._early, []
        return early

    def ask(self, text: str) -> dict[str, Any]:
        """One command and its reply; DeviceError `no_answer` or `refused`."""
        for _ in range(_TRIES):
            reply = self._exchange(text, _REPLY_S)
            if reply is not None:
                return reply
        raise DeviceError(
            "no_answer",
            f"{self._device} does not answer the command {text!r}",
            why=f"nothing came within {_REPLY_S:g} s, {_TRIES} times",
            remedy="Switch the headset off and on",
            transient=True,
        )

    def tell(self, text: str) -> None:
        """A command that not every firmware answers. DeviceError `refused`."""
        self._exchange(text, _TOLD_S)

    def post(self, packed: bytes) -> None:
        """A command (`command(text)`) whose reply nobody waits for; does not block."""
        self._unasked += 1
        self._link.post(CONTROL, packed)

    def take(self, packet: Packet) -> None:
        """A notification of the control characteristic."""
        for reply in self._replies.feed(packet.data):
            said = {key: reply[key] for key in _KEPT if key in reply}
            if "bp" in reply:
                said["battery_percent"] = float(reply["bp"])
            if said:
                self._note(said)
            with self._answered:
                if self._unasked:
                    self._unasked -= 1
                    continue
                self._heard.append(reply)
                del self._heard[:-8]
                self._answered.notify_all()

    def _exchange(self, text: str, within_s: float) -> dict[str, Any] | None:
        with self._asking:
            self._heard.clear()
            self._link.write(CONTROL, command(text))
            reply = self._await_reply(within_s)
        if reply is not None and reply.get("rc", 0) != 0:
            raise DeviceError(
                "refused",
                f"{self._device} refuses the command {text!r}",
                why=f"it answers rc {reply['rc']}",
                remedy="Correct `preset` in the device's settings, or update the headset",
                transient=True,
            )
        return reply

    def _await_reply(self, within_s: float) -> dict[str, Any] | None:
        until = self._clock.monotonic_ns() + round(within_s * 1e9)
        while (left := (until - self._clock.monotonic_ns()) / 1e9) > 0:
            if self.is_streaming:
                with self._answered:
                    if not self._heard:
                        self._answered.wait(left)
            else:
                for packet in self._link.read(left):
                    if packet.characteristic == CONTROL:
                        self.take(packet)
                    else:
                        self._early.append(packet)
            if self._heard:
                return self._heard[0]
        self._unasked = 0
        return None
