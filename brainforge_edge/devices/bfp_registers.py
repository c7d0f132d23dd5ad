"""Registers of a BFP/1 device: one request at a time, answered or given up within 750 ms.

Runs in: acquire process. During `open` the caller reads the link itself; later the pull thread
does, and a request of another thread waits for it.
"""

import threading
from collections.abc import Callable

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.base import Transport
from brainforge_edge.devices.bfp import (
    PAGE_BYTES,
    REGISTER_ERRORS,
    FrameType,
    Op,
    PayloadType,
    Register,
    Request,
    build_frame,
)

TIMEOUT_S = 0.25
TRIES = 3
NO_SUCH_REGISTER, WRONG_STATE = 1, 7
_MAX_DESCRIPTOR = 256 * 1024


class Registers:
    """Reads and writes registers over `transport`; `pump(seconds)` must bring `answer` calls."""

    def __init__(
        self, transport: Transport, *, clock: Clock, token: int, pump: Callable[[float], None]
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._token = token & 0xFFFF
        self._pump = pump
        self._one = threading.Lock()  # at most one request is outstanding
        self._waiting: int | None = None
        self._answer: Request | None = None
        self.answered = threading.Event()

    def answer(self, payload: bytes) -> None:
        """Take the payload of a REP frame; one that nobody waits for is left out."""
        reply = Request.unpack(payload)
        if reply is not None and reply.token == self._waiting:
            self._answer = reply
            self.answered.set()

    def read(self, register: int, payload_type: PayloadType, *, count: int = 1) -> bytes:
        """The register's bytes; DeviceError `no_answer` or `register`."""
        return self._request(Op.READ, register, payload_type, count, b"")

    def read_number(self, register: int, payload_type: PayloadType) -> int:
        return int.from_bytes(self.read(register, payload_type), "little")

    def write_number(self, register: int, payload_type: PayloadType, value: int) -> int:
        """Write one value; returns the one that is really in force."""
        data = value.to_bytes(payload_type, "little")
        return int.from_bytes(self._request(Op.WRITE, register, payload_type, 1, data), "little")

    def write(self, register: int, payload_type: PayloadType, data: bytes) -> bytes:
        """Write some values, packed; returns those that are really in force."""
        count = len(data) // payload_type.item_bytes
        return self._request(Op.WRITE, register, payload_type, count, data)

    def read_descriptor(self) -> bytes:
        """All pages of the packed descriptor."""
        size = self.read_number(Register.DESC_SIZE, PayloadType.U32)
        if not 0 < size <= _MAX_DESCRIPTOR:
            raise _refused(Register.DESC_SIZE, f"it announces {size} bytes", 0)
        pages = []
        for page in range(-(-size // PAGE_BYTES)):
            self.write_number(Register.DESC_PAGE, PayloadType.U16, page)
            pages.append(self.read(Register.DESC_PAGE, PayloadType.U8, count=PAGE_BYTES))
        return b"".join(pages)[:size]

    def _request(
        self, op: Op, register: int, payload_type: PayloadType, count: int, data: bytes
    ) -> bytes:
        with self._one:
            self._token = (self._token + 1) & 0xFFFF
            self._answer = None
            self.answered.clear()
            self._waiting = self._token
            request = Request(self._token, op, payload_type, register, count, data)
            frame = build_frame(FrameType.REQ, request.pack())
            try:
                for _ in range(TRIES):  # the same token: the device answers it from its cache
                    self._transport.write(frame)
                    reply = self._await()
                    if reply is not None:
                        return _data_of(reply, register)
            finally:
                self._waiting = None
        raise DeviceError(
            "no_answer",
            f"the device does not answer (register {register})",
            why=f"nothing came within {TRIES} × {TIMEOUT_S * 1000:.0f} ms",
            remedy="Check that `port` names this device and that it is switched on",
            transient=True,
        )

    def _await(self) -> Request | None:
        until = self._clock.monotonic_ns() + round(TIMEOUT_S * 1e9)
        while self._answer is None:
            left = (until - self._clock.monotonic_ns()) / 1e9
            if left <= 0:
                return None
            self._pump(left)
        return self._answer


def _data_of(reply: Request, register: int) -> bytes:
    if reply.op & Op.FAILED:
        code = reply.data[0] if reply.data else 0
        raise _refused(register, REGISTER_ERRORS.get(code, f"error {code}"), code)
    return reply.data


def _refused(register: int, why: str, code: int) -> DeviceError:
    return DeviceError(
        "register",
        f"the device refuses register {register}",
        why=why,
        remedy="Update the device's firmware if it is older than this software",
        error=code,
    )
