"""What an ONNX file asks for, read from its protobuf before any runtime sees it. Runs in: pipeline worker; no I/O.

Only structure is read: operators, opsets, tensors that lie in other files, graphs within graphs. Field
numbers are those of onnx.proto3; a field that stands twice is looked at twice, as no reader joins less.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

MOST_NODES: Final = 20_000
_MOST_FIELDS: Final = 2_000_000
_EXTERNAL: Final = 1  # TensorProto.DataLocation

# message → field → the message in it
_WITHIN: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "subgraph", 10: "tensor", 11: "subgraph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}  # fmt: skip


class Survey(msgspec.Struct, frozen=True):
    """`operators`: (domain, type), the default domain empty."""

    operators: frozenset[tuple[str, str]]
    n_nodes: int
    opsets: dict[str, int]
    has_external_data: bool
    has_subgraphs: bool
    has_functions: bool
    has_training: bool


def survey(data: bytes) -> Survey:
    """ValueError: no ONNX model, damaged, or of more nodes than `MOST_NODES`."""
    walk = _Walk()
    walk.message(memoryview(data), "model")
    if "graph" not in walk.seen or not walk.has_version:
        msg = "it holds no graph or no version of the format"
        raise ValueError(msg)
    return Survey(
        frozenset(walk.operators),
        walk.n_nodes,
        walk.opsets,
        has_external_data=walk.has_external_data,
        has_subgraphs="subgraph" in walk.seen,
        has_functions="function" in walk.seen,
        has_training="training" in walk.seen,
    )


class _Walk:
    """No recursion deeper than the table's: graphs within graphs are noted, not entered."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.operators: set[tuple[str, str]] = set()
        self.opsets: dict[str, int] = {}
        self.n_nodes = 0
        self.has_external_data = False
        self.has_version = False
        self._n_fields = 0

    def message(self, data: memoryview, kind: str) -> None:
        self.seen.add(kind)
        within = _WITHIN.get(kind, {})
        texts: dict[int, str] = {}
        version = 0
        for number, value in self._fields(data):
            if isinstance(value, int):
                self.has_version |= kind == "model" and number == 1
                self.has_external_data |= (kind, number, value) == ("tensor", 14, _EXTERNAL)
                version = value if (kind, number) == ("opset", 2) else version
            elif inner := within.get(number):
                self.message(value, inner)
            elif (kind, number) == ("tensor", 13):
                self.has_external_data = True
            elif (kind, number) in {("node", 4), ("node", 7), ("opset", 1)}:
                texts[number] = _text(value)
        if kind == "node":
            self.n_nodes += 1
            if self.n_nodes > MOST_NODES:
                msg = f"it has more than {MOST_NODES} nodes"
                raise ValueError(msg)
            self.operators.add((_domain(texts.get(7, "")), texts.get(4, "")))
        elif kind == "opset":
            self.opsets[_domain(texts.get(1, ""))] = version

    def _fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        at = 0
        while at < len(data):
            self._n_fields += 1
            if self._n_fields > _MOST_FIELDS:
                msg = f"it has more than {_MOST_FIELDS} fields"
                raise ValueError(msg)
            key, at = _varint(data, at)
            number, wire = key >> 3, key & 7
            if wire == 0:
                value, at = _varint(data, at)
                yield number, value
            elif wire == 2:
                size, at = _varint(data, at)
                if size > len(data) - at:
                    msg = "it is cut off"
                    raise ValueError(msg)
                yield number, data[at : at + size]
                at += size
            elif wire in {1, 5}:
                at += 8 if wire == 1 else 4
            else:
                msg = "it is not in the ONNX format"
                raise ValueError(msg)
        if at > len(data):
            msg = "it is cut off"
            raise ValueError(msg)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            msg = "it is cut off"
            raise ValueError(msg)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    msg = "it is not in the ONNX format"
    raise ValueError(msg)


def _text(value: memoryview) -> str:
    return bytes(value[:200]).decode("utf-8", errors="replace")


def _domain(text: str) -> str:
    return "" if text == "ai.onnx" else text
