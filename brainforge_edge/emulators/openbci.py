"""An OpenBCI Cyton, alone or with Daisy, behind its dongle: firmware 3.1.2 as far as a driver sees it.

Runs in: emulator process, its only thread. 250 packets a second whatever the board; with Daisy even
packets carry channels 9–16 and odd ones 1–8 of one sample. The counter starts at 0 with each `b`.
"""

import math

import numpy as np

from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.pty import DeviceFifo
from brainforge_edge.emulators.source import PulsedSource, PulseTrain, RowSource

PACKET_BYTES = 33
PACKET_HZ = 250.0
_BATCH_NS = 16_000_000  # a dongle hands over about four packets at a time
_AXIS = {7: 0, 8: 1, 9: 2}
_ACCELERATION = (0, 0, 8_000)  # counts: 1 g along Z
_ALONE = frozenset("?DdcC<>0-=p[]12345678qwertyui!@#$%^&*QWERTYUI")
_LONG = {"x": 9, "z": 5, "/": 2, "~": 2, "`": 2}


class Cyton:
    """See `device.EmulatedDevice`. `speed` > 1 lets the board's own clock run faster.

    `reset_text` is for tests of a wrong device on the port.
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
        self._run: Run | None = None
        self._typed = ""
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
        return self._start_ns + math.ceil((self._packet + 1) * self._packet_ns) + _BATCH_NS

    def receive(self, data: bytes, now_ns: int) -> None:
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
        self._has_time = False
        self._is_attached = True
        self._typed = ""

    def _forget(self) -> None:
        for _, first, n in self.fifo.clear():
            if self._run is not None:
                self._run.drop(first, n)

    def _do(self, command: str, now_ns: int) -> None:
        if command == "s":
            self._run = None
        elif self._run is not None:
            return  # a board that streams hears nothing else
        elif command == "b":
            self._start_ns, self._packet = now_ns, 0
            if self._pulses is not None:
                row_ns = self._packet_ns * self._per_row
                self._rows = PulsedSource(
                    self.source, self._pulses, first_ns=now_ns + round(row_ns), sample_ns=row_ns
                )
            self._run = self.ledger.start(f"b:{len(self.ledger.runs)}", now_ns)
        elif command in "<>":
            self._has_time = command == "<"
            self._say(f"Success: Time stamp {'ON' if self._has_time else 'OFF'}")
        elif command == "v":
            self._has_time = False
            self._say(self._reset_text)
        elif command == "V":
            self._say("v3.1.2")
        elif command[0] in _LONG:
            self._say(f"Success: {command} done")
        elif command in _ALONE:
            self._say("Success: done")
        else:
            self._say("Failure: unknown command")

    def _say(self, text: str) -> None:
        if self._is_plugged and text:
            self.fifo.put(f"{text}$$$".encode("latin-1"))

    def _banner(self) -> str:
        lines = ["OpenBCI V3 8-16 channel", "On Board ADS1299 Device ID: 0x3E"]
        if self._per_row == 2:
            lines.append("On Daisy ADS1299 Device ID: 0x3E")
        return "\r\n".join([*lines, "LIS3DH Device ID: 0x33", "Firmware: v3.1.2", ""])

    def _emit(self, run: Run, taken: int) -> None:
        first_row = self._packet // self._per_row
        last_row = (taken - 1) // self._per_row
        rows = self._rows.rows(first_row, last_row - first_row + 1)
        big_endian = rows.astype(">i4").view(np.uint8).reshape(len(rows), -1, 4)[:, :, 1:]
        for packet in range(self._packet, taken):
            row, half = divmod(packet, self._per_row)
            # The Daisy's half travels first.
            start = 8 if self._per_row == 2 and half == 0 else 0
            samples = big_endian[row - first_row, start : start + 8].tobytes()
            frame = b"".join(
                (bytes((0xA0, packet & 0xFF)), samples, self._auxiliary(packet), self._end(packet))
            )
            kept = self._is_attached and self.fifo.put(frame, first=row, rows=1)
            if not kept:
                run.drop(row, 1)
        self._packet = taken
        run.rows = taken // self._per_row

    def _auxiliary(self, packet: int) -> bytes:
        if not self._has_time:
            return np.array(_ACCELERATION, dtype=">i2").tobytes()
        axis = _AXIS.get((packet & 0xFF) % 10)
        value = 0 if axis is None else _ACCELERATION[axis]
        since_boot = (self._start_ns - self._boot_ns) // 1_000_000
        board_ms = since_boot + round((packet + 1) * 1000 / PACKET_HZ)
        return value.to_bytes(2, "big", signed=True) + (board_ms & 0xFFFFFFFF).to_bytes(4, "big")

    def _end(self, packet: int) -> bytes:
        if not self._has_time:
            return b"\xc0"
        return b"\xc3" if packet == 0 else b"\xc4"
