"""Registers of the emulated helmet. Runs in: emulator process, its only thread."""

from typing import Protocol

from brainforge_edge.devices.bfp import PAGE_BYTES, Op, PayloadType, Register, Request
from brainforge_edge.kernels.crc import crc32c

_NO_SUCH, _WRONG_TYPE, _READ_ONLY, _OUT_OF_RANGE = 1, 2, 3, 5

_SWITCHES = frozenset(
    {Register.KEEP_RUNNING, Register.STREAM_EN, Register.OPERATION, Register.RESET}
)


class Registered(Protocol):
    """What the registers read and do."""

    identity: int
    descriptor: bytes

    def ticks(self, now_ns: int) -> int: ...
    @property
    def start_ticks(self) -> int: ...
    def start(self, now_ns: int) -> None: ...
    def stop(self) -> None: ...
    def restart(self, now_ns: int) -> None: ...


class HelmetRegisters:
    """Answers requests; a repeated token gets the same answer and does nothing twice."""

    def __init__(self, device: Registered) -> None:
        self._device = device
        self._token = -1
        self._reply = b""
        self._page = 0
        self._is_enabled = 0
        self._is_active = 0
        self.keep_running = 0

    def answer(self, payload: bytes, now_ns: int) -> bytes:
        """Payload of the REP for the payload of a REQ; empty if it is no request."""
        request = Request.unpack(payload)
        if request is None:
            return b""
        if request.token != self._token:
            self._token = request.token
            error = self._write(request, now_ns) if request.op == Op.WRITE else 0
            data = self._read(request.address, now_ns)
            if not error and data is None:
                error = _NO_SUCH
            if error or data is None:
                reply = request._replace(op=request.op | Op.FAILED, data=bytes([error]))
            elif request.op == Op.WRITE and request.address == Register.DESC_PAGE:
                reply = request._replace(data=request.data)
            else:
                reply = request._replace(data=data)
            self._reply = reply.pack()
        return self._reply

    def _read(self, address: int, now_ns: int) -> bytes | None:
        device = self._device
        if address == Register.DESC_PAGE:
            return device.descriptor[self._page * PAGE_BYTES : (self._page + 1) * PAGE_BYTES]
        texts = {
            Register.NAME: b"emulated helmet",
            Register.UID: b"BF-OPM-EMU-1",
            Register.TAG: b"emulator",
            Register.VERSION: b"BFP/1 emulator",
        }
        if address in texts:
            size = {Register.UID: 16, Register.TAG: 8}.get(Register(address), 32)
            return texts[Register(address)].ljust(size, b"\0")
        numbers: dict[int, tuple[int, int]] = {
            Register.WHO_AM_I: (device.identity, 2),
            Register.TIME: (device.ticks(now_ns), 8),
            Register.OPERATION: (self._is_active, 1),
            Register.RESET: (0, 1),
            Register.HEARTBEAT: (1000, 2),
            Register.KEEP_RUNNING: (self.keep_running, 1),
            Register.DESC_SIZE: (len(device.descriptor), 4),
            Register.DESC_CRC: (crc32c(device.descriptor), 4),
            Register.STREAM_EN: (self._is_enabled, 1),
            Register.FRAME_SAMPLES: (8, 2),
            Register.STREAM_START: (device.start_ticks, 8),
            Register.TEST_SIGNAL: (0, 1),
        }
        if address not in numbers:
            return None
        value, size = numbers[address]
        return value.to_bytes(size, "little")

    def _write(self, request: Request, now_ns: int) -> int:
        """Error code, 0 for none."""
        value = int.from_bytes(request.data, "little")
        if request.address == Register.DESC_PAGE:
            if request.payload_type != PayloadType.U16:
                return _WRONG_TYPE
            if value * PAGE_BYTES >= len(self._device.descriptor):
                return _OUT_OF_RANGE
            self._page = value
            return 0
        if request.address not in _SWITCHES:
            return _READ_ONLY if self._read(request.address, now_ns) is not None else _NO_SUCH
        if request.payload_type != PayloadType.U8:
            return _WRONG_TYPE
        if value > 1:
            return _OUT_OF_RANGE
        self._switch(request.address, value, now_ns)
        return 0

    def _switch(self, address: int, value: int, now_ns: int) -> None:
        if address == Register.KEEP_RUNNING:
            self.keep_running = value
            return
        if address == Register.RESET:
            if value:
                self._device.restart(now_ns)
            return
        if address == Register.STREAM_EN:
            self._is_enabled = value
        else:
            self._is_active = value
        if self._is_enabled and self._is_active:
            self._device.start(now_ns)
        else:
            self._device.stop()
