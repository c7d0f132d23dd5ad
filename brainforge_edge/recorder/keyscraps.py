"""What can be read of a `keys` file that is damaged. Runs in: acquire and agent process; tools. No I/O.

It is JSON, in which one changed byte would cost everything. Here each entry is looked for by itself:
the label of its key, then every wrapped key that is whole before the label of the next one.
"""

import re
from base64 import b64decode
from binascii import Error
from typing import NamedTuple

import msgspec

from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.security.wrap import WrappedKey

_LABEL = re.compile(rb'"(key_id|erased_key)"\s*:\s*"([0-9a-f]{16})"')
_WRAPPED = re.compile(
    rb'\{\s*"to"\s*:\s*"([0-9a-f]{16})"\s*,\s*"role"\s*:\s*"([a-z]{1,64})"\s*,\s*'
    rb'"sealed"\s*:\s*"([A-Za-z0-9+/]+={0,2})"\s*\}'
)
_TEXT = rb'\s*:\s*("(?:[^"\\]|\\.)*")'
_PARTICIPANT = re.compile(rb'"participant"' + _TEXT)
_DEVICE = re.compile(rb'"device"' + _TEXT)
_ENTRY = re.compile(
    rb'"key_id"\s*:\s*"[0-9a-f]{16}"\s*,\s*"participant"' + _TEXT + rb'\s*,\s*"device"' + _TEXT
    + rb'\s*,\s*"wrapped"\s*:\s*\[\s*(?:' + _WRAPPED.pattern + rb"\s*,?\s*)*\]"
)  # fmt: skip
_LONG = re.compile(rb"[A-Za-z0-9+/]{64,}")  # as only what is sealed is, of all in the file
_HOLE = re.compile(rb"\0{8,}")  # as a sector that was lost leaves
_ORDER = re.compile(rb'"utc_ns"\s*:\s*([0-9]{1,19}|null)\s*,\s*"order"\s*:\s*"([0-9a-f]{1,64})"')
_LOG_ID = re.compile(rb'"log_id"\s*:\s*"([A-Za-z0-9+/=]{24})"')


class Scrap(NamedTuple):
    """One entry, from its label at `start` to `end`, where the next one begins."""

    key_id: str
    participant: str | None  # None: it cannot be read
    device: str
    wrapped: tuple[WrappedKey, ...]
    start: int
    end: int
    is_lone: bool  # False: behind it lies what an entry without a label left


class ErasedKey(msgspec.Struct, frozen=True):
    """A data key that is gone for good: whoever still has a copy of its entry must not bring it back."""

    erased_key: str  # its id, hex
    utc_ns: int | None
    order: str  # id of the order, or ""


def scraps(data: bytes) -> list[Scrap]:
    found = []
    for start, end, kind, key_id in _blocks(data):
        if kind != b"key_id":
            continue
        own = _own_end(data, start, end)
        wrapped = []
        for match in _WRAPPED.finditer(data, start, own):
            sealed = _bytes(match[3])
            if sealed is not None:
                wrapped.append(WrappedKey(match[1].decode(), match[2].decode(), sealed))
        said = _text(_PARTICIPANT.search(data, start, own))
        device = _text(_DEVICE.search(data, start, own)) or ""
        found.append(Scrap(key_id, said, device, tuple(wrapped), start, own, own == end))
    return found


def _own_end(data: bytes, start: int, end: int) -> int:
    """Where what follows is of another entry, whose label is gone: it has wrapped keys of its own."""
    first = data.find(b'"wrapped"', start, end)
    second = data.find(b'"wrapped"', first + 1, end) if first >= 0 else -1
    own = second if second >= 0 else end
    seen: set[bytes] = set()
    for match in _WRAPPED.finditer(data, start, own):
        if match[1] in seen:
            return match.start()
        seen.add(match[1])
    return own


def erased_keys(data: bytes) -> list[ErasedKey]:
    found = []
    for start, end, kind, key_id in _blocks(data):
        if kind == b"erased_key":
            match = _ORDER.search(data, start, end)
            utc = None if match is None or match[1] == b"null" else int(match[1])
            found.append(ErasedKey(key_id, utc, "" if match is None else match[2].decode()))
    return found


def log_id_of(data: bytes) -> bytes:
    """b"" if it cannot be read."""
    match = _LOG_ID.search(data)
    return b"" if match is None else _bytes(match[1]) or b""


def without(data: bytes, key_ids: frozenset[str]) -> tuple[bytes, int]:
    """The file with blanks where entries of these keys are; and how many places are left of which
    nobody can say whose they are."""
    out = bytearray(data)
    unclear = 0
    blocks = scraps(data)
    for scrap in blocks:
        if scrap.key_id in key_ids:
            hole = _HOLE.search(data, scrap.start, scrap.end)  # the next label may have been in it
            end = scrap.end if hole is None else hole.start()
            out[scrap.start : end] = b" " * (end - scrap.start)
            unclear += not (scrap.is_lone and hole is None)
        else:
            unclear += not (scrap.is_lone and _is_entry(data[scrap.start : scrap.end]))
    before = data[: blocks[0].start] if blocks else data
    return bytes(out), unclear + len(_LONG.findall(before))


def _is_entry(block: bytes) -> bool:
    """Whether it is one entry as it was written, and nothing else that could be a wrapped key."""
    match = _ENTRY.match(block)
    return match is not None and _LONG.search(block, match.end()) is None


def _blocks(data: bytes) -> list[tuple[int, int, bytes, str]]:
    labels = list(_LABEL.finditer(data))
    ends = [*(label.start() for label in labels), len(data)][1:]
    return [
        (label.start(), end, label[1], label[2].decode())
        for label, end in zip(labels, ends, strict=False)
    ]


def _bytes(text: bytes) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except Error:
        return None


def _text(match: re.Match[bytes] | None) -> str | None:
    if match is None:
        return None
    try:
        return msgspec.json.decode(match[1], type=str)
    except GARBLED:
        return None
