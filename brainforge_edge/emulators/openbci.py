"""An OpenBCI Cyton, alone or with Daisy, behind its dongle: firmware 3.1.2 as far as a driver sees it.

Runs in: emulator process, its only thread. 250 packets a second whatever the board; with Daisy even
packets carry channels 9–16 and odd ones 1–8 of one sample. The counter starts at 0 with each `b`.
While it streams it hears only `s` and markers; a real one also changes channel settings.
"""

import math
from collections.abc import Sequence

import numpy as np

from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.openbci_front_end import FrontEnd
from brainforge_edge.emulators.openbci_motion import TRIPLES, acceleration, emitted, index_of
from brainforge_edge.emulators.pty import DeviceFifo
from brainforge_edge.emulators.source import PulsedSource, PulseTrain, RowSource

PACKET_BYTES = 33
PACKET_HZ = 250.0
_BATCH = 5
_BATCH_NS = 16_000_000  # a dongle hands over about four packets at a time
_AXIS = {7: 0, 8: 1, 9: 2}
OHMS = (5_000.0,)
_ALONE = frozenset("cC0-=p[]")
_LONG = {"x": 9, "z": 5, "/": 2, "~": 2, "`": 2}
_MARKER_MODE = "4"


class Cyton:
    """See `device.EmulatedDevice`. `speed` > 1 lets the board's own clock run faster.

    `reset_text` is for tests of a wrong device on the port; `ohms` are its electrodes' impedances.
    """

    def __init__(
        self,
        source: RowSource,
        *,
        ledger: Ledger,
        now_ns: int,
        speed: float = 1.0,
        fifo_s: float = 1.0,
        reset_text: str | None = None,
        pulses: PulseTrain | None = None,
        ohms: Sequence[float] = OHMS,
    ) -> None:
        n_channels = len(source.channels)
        if n_channels not in {8, 16}:
            message = f"a Cyton has 8 or 16 channels, not {n_channels}"
            raise ValueError(message)
        self.source: RowSource = source
        self.ledger = ledger
        self._pulses = pulses
        self.fifo = DeviceFifo(math.ceil(PACKET_HZ * speed * PACKET_BYTES * fifo_s))
        self._rows: RowSource = source
        self._per_row = n_channels // 8
        self._packet_ns = 1e9 / PACKET_HZ / speed
        self._reset_text = self._banner() if reset_text is None else reset_text
        self._is_plugged = False
        self._front_end = FrontEnd(n_channels, ohms)
        self._run: Run | None = None
        self._motion: Run | None = None
        self._typed = ""
        self._prepared: list[bytes] = []  # frames from `_packet` on, made before they are due
        self._boot(now_ns)

    # ---- EmulatedDevice ------------------------------------------------------------------------

    def produce(self, now_ns: int) -> None:
        run = self._run
        if run is None:
            return
        taken = int((now_ns - self._start_ns) / self._packet_ns)
        if taken > self._packet:
            self._emit(run, taken)

    def next_due_ns(self) -> int | None:
        if self._run is None:
            return None
        self._prepare()
        return self._start_ns + math.ceil((self._packet + 1) * self._packet_ns) + _BATCH_NS

    def receive(self, data: bytes, now_ns: int) -> None:
        self._prepared = []
        self._is_attached = True
        for character in data.decode("latin-1"):
            self._typed += character
            wanted = _LONG.get(self._typed[0], 1)
            if len(self._typed) >= wanted:
                command, self._typed = self._typed, ""
                self._do(command, now_ns)

    def plugged(self, now_ns: int) -> None:  # noqa: ARG002  part of the protocol
        self._is_plugged = True
        self._is_attached = False

    def unplugged(self, now_ns: int) -> None:  # noqa: ARG002  part of the protocol
        self._is_plugged = self._is_attached = False
        self._forget()

    def restart(self, now_ns: int) -> None:
        self._forget()
        self._boot(now_ns)

    # ---- inside --------------------------------------------------------------------------------

    def _boot(self, now_ns: int) -> None:
        self._boot_ns = now_ns
        self._run = None
        self._start_ns = now_ns
        self._packet = 0  # packets made in this run
        self._is_attached = True
        self._typed = ""
        self._reset()

    def _reset(self) -> None:
        self._has_time = self._has_markers = False
        self._marker = 0  # that goes out with the next packet
        self._front_end.reset()

    def _forget(self) -> None:
        for packet, first, n in self.fifo.clear():
            if self._run is not None:
                self._run.drop(first, n)
                self._drop_motion(packet)

    def _do(self, command: str, now_ns: int) -> None:
        if command == "s":
            self._run = None
        elif command[0] == "`":
            self._marker = ord(command[1])
        elif self._run is not None:
            return  # a board that streams hears little else
        elif command == "b":
            self._begin(now_ns)
        else:
            self._say(self._answer(command))

    def _answer(self, command: str) -> str:
        if command in "<>":
            self._has_time = command == "<"
            return f"Time stamp {'ON' if self._has_time else 'OFF'}"
        if command == "v":
            self._reset()
            return self._reset_text
        if command == "d":
            self._front_end.reset()
        elif command[0] == "/":
            self._has_markers = command[1] == _MARKER_MODE
        said = {
            "V": "v3.1.2",
            "d": "updating channel settings to default",
            "D": "060110",
            "?": self._front_end.registers(),
            "/": "Success: marker" if self._has_markers else "Success: default",
            "~": "Success: Sample rate is 250Hz",
        }.get(command[0])
        if said is None:
            said = self._front_end.command(command)
        if said is None:
            said = "Success: done" if command in _ALONE else "Failure: unknown command"
        return said

    def _begin(self, now_ns: int) -> None:
        self._start_ns, self._packet, self._marker = now_ns, 0, 0
        if self._pulses is not None:
            row_ns = self._packet_ns * self._per_row
            self._rows = PulsedSource(
                self.source, self._pulses, first_ns=now_ns + round(row_ns), sample_ns=row_ns
            )
        name = f"b:{len(self.ledger.runs)}"
        self._run = self.ledger.start(name, now_ns)
        self._motion = None
        if not self._has_markers:
            self._motion = self.ledger.of("acc").start(name, now_ns)

    def _say(self, text: str) -> None:
        if self._is_plugged and text:
            self.fifo.put(f"{text}$$$".encode("latin-1"))

    def _banner(self) -> str:
        lines = ["OpenBCI V3 8-16 channel", "On Board ADS1299 Device ID: 0x3E"]
        if self._per_row == 2:
            lines.append("On Daisy ADS1299 Device ID: 0x3E")
        return "\r\n".join([*lines, "LIS3DH Device ID: 0x33", "Firmware: v3.1.2", ""])

    def _prepare(self) -> None:
        """A board does not get later by the time that its packets take to be made: the next ones are
        made while it waits. A marker goes out with the packet that is next then."""
        if not self._prepared and not self._has_markers:
            self._prepared = self._frames(self._packet + _BATCH)

    def _emit(self, run: Run, taken: int) -> None:
        frames, self._prepared = self._prepared, []
        if len(frames) < taken - self._packet:
            frames = self._frames(taken)
        for packet, frame in enumerate(frames[: taken - self._packet], self._packet):
            row = packet // self._per_row
            kept = self._is_attached and self.fifo.put(frame, first=row, rows=1, stream=packet)
            if not kept:
                run.drop(row, 1)
                self._drop_motion(packet)
        self._packet = taken
        run.rows = taken // self._per_row
        if self._motion is not None:
            self._motion.rows = emitted(taken, has_time=self._has_time)

    def _frames(self, taken: int) -> list[bytes]:
        """Packets `_packet` ≤ packet < `taken`."""
        first_row = self._packet // self._per_row
        last_row = (taken - 1) // self._per_row
        rows = self._front_end.measured(
            self._rows.rows(first_row, last_row - first_row + 1),
            first_row,
            PACKET_HZ / self._per_row,
        )
        big_endian = rows.astype(">i4").view(np.uint8).reshape(len(rows), -1, 4)[:, :, 1:]
        frames = []
        for packet in range(self._packet, taken):
            row, half = divmod(packet, self._per_row)
            # The Daisy's half travels first.
            start = 8 if self._per_row == 2 and half == 0 else 0
            samples = big_endian[row - first_row, start : start + 8].tobytes()
            frames.append(
                bytes((0xA0, packet & 0xFF)) + samples + self._auxiliary(packet) + self._end(packet)
            )
        return frames

    def _drop_motion(self, packet: int) -> None:
        at = index_of(packet, has_time=self._has_time)
        if self._motion is not None and at is not None:
            self._motion.drop(at, 1)

    def _auxiliary(self, packet: int) -> bytes:
        rounds, number = divmod(packet, 256)
        tens, place = divmod(number, 10)
        if self._has_markers:
            marker, self._marker = self._marker, 0
            first = marker.to_bytes(2, "big")
        elif self._has_time:
            axis = _AXIS.get(place)
            value = 0 if axis is None else acceleration(TRIPLES * rounds + tens)[axis]
            first = value.to_bytes(2, "big", signed=True)
        else:  # zeros: no new value
            values = (0, 0, 0) if packet % 10 else acceleration(packet // 10)
            return np.array(values, dtype=">i2").tobytes()
        if not self._has_time:
            return first + bytes(4)
        since_boot = (self._start_ns - self._boot_ns) // 1_000_000
        board_ms = since_boot + round((packet + 1) * 1000 / PACKET_HZ)
        return first + (board_ms & 0xFFFFFFFF).to_bytes(4, "big")

    def _end(self, packet: int) -> bytes:
        if not self._has_time:
            return b"\xc1" if self._has_markers else b"\xc0"
        kind = 0xC5 if self._has_markers else 0xC3
        return bytes((kind if packet == 0 else kind + 1,))
