"""Registers of an emulated BFP/1 device. Runs in: emulator process, its only thread."""

from collections.abc import Callable
from typing import NamedTuple

from brainforge_edge.devices.bfp import PAGE_BYTES, Op, PayloadType, Register, Request

NO_SUCH, WRONG_TYPE, READ_ONLY, WRONG_COUNT, OUT_OF_RANGE, BUSY, WRONG_STATE = range(1, 8)


class Cell(NamedTuple):
    """One register. `write` gets the data and the time; it returns an error code, 0 for none."""

    kind: PayloadType
    read: Callable[[int], bytes]
    write: Callable[[bytes, int], int] | None = None


def number(kind: PayloadType, read: Callable[[int], int]) -> Cell:
    """A single value that cannot be written."""
    return Cell(kind, lambda now: read(now).to_bytes(kind.item_bytes, "little"))


def text(value: bytes, size: int) -> Cell:
    return Cell(PayloadType.U8, lambda _: value.ljust(size, b"\0"))


def switch(
    read: Callable[[], int],
    write: Callable[[int, int], int | None],
    *,
    kind: PayloadType = PayloadType.U8,
    most: int = 1,
) -> Cell:
    """A single value from 0 to `most`; `write` gets it and the time, and may answer an error code."""

    def take(data: bytes, now_ns: int) -> int:
        value = int.from_bytes(data, "little")
        return OUT_OF_RANGE if value > most else write(value, now_ns) or 0

    return Cell(kind, lambda _: read().to_bytes(kind.item_bytes, "little"), take)


def array(values: bytearray, *, kind: PayloadType = PayloadType.U8) -> Cell:
    """Values that are kept as they are written, all at once."""

    def take(data: bytes, now_ns: int) -> int:  # noqa: ARG001  part of the protocol
        values[:] = data
        return 0

    return Cell(kind, lambda _: bytes(values), take)


class EmulatedRegisters:
    """Answers requests; a repeated token gets the same answer and does nothing twice."""

    def __init__(self, cells: dict[int, Cell], *, descriptor: bytes) -> None:
        self._cells = cells
        self._descriptor = descriptor
        self._token = -1
        self._reply = b""
        self._page = 0

    def answer(self, payload: bytes, now_ns: int) -> bytes:
        """Payload of the REP for the payload of a REQ; empty if it is no request."""
        request = Request.unpack(payload)
        if request is None:
            return b""
        if request.token != self._token:
            self._token = request.token
            error, data = self._do(request, now_ns)
            if error:
                reply = request._replace(op=request.op | Op.FAILED, data=bytes([error]))
            else:
                reply = request._replace(data=data)
            self._reply = reply.pack()
        return self._reply

    def _do(self, request: Request, now_ns: int) -> tuple[int, bytes]:
        """(error code, the value that is in force)."""
        if request.address == Register.DESC_PAGE:
            return self._turn_page(request)
        cell = self._cells.get(request.address)
        if cell is None:
            return NO_SUCH, b""
        if request.payload_type != cell.kind:
            return WRONG_TYPE, b""
        before = cell.read(now_ns)
        if request.n_items * cell.kind.item_bytes != len(before):
            return WRONG_COUNT, b""
        if request.op == Op.WRITE:
            if cell.write is None:
                return READ_ONLY, b""
            if len(request.data) != len(before):
                return WRONG_COUNT, b""
            error = cell.write(request.data, now_ns)
            if error:
                return error, b""
        return 0, cell.read(now_ns)

    def _turn_page(self, request: Request) -> tuple[int, bytes]:
        if request.op != Op.WRITE:
            start = self._page * PAGE_BYTES
            return 0, self._descriptor[start : start + PAGE_BYTES]
        if request.payload_type != PayloadType.U16:
            return WRONG_TYPE, b""
        page = int.from_bytes(request.data, "little")
        if page * PAGE_BYTES >= len(self._descriptor):
            return OUT_OF_RANGE, b""
        self._page = page
        return 0, request.data
