"""Small ONNX files written field by field: the format is protobuf, and these few messages need no library."""

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Dims = tuple[int | str, ...]
TYPES = {"float32": 1, "int64": 7, "float64": 11}


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | float | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, values: NDArray[Any], *more: bytes) -> bytes:
    dims = b"".join(field(1, n) for n in values.shape)
    raw = field(9, np.ascontiguousarray(values).tobytes()) if not more else b""
    return dims + field(2, TYPES[str(values.dtype)]) + field(8, name) + raw + b"".join(more)


def end(name: str, shape: Dims, dtype: str = "float32") -> bytes:
    """A ValueInfoProto: what an input or output is."""
    dims = b"".join(field(1, field(1 if isinstance(n, int) else 2, n)) for n in shape)
    kind = field(1, TYPES[dtype]) + field(2, dims)
    return field(1, name) + field(2, field(1, kind))


def node(
    op: str, inputs: list[str], outputs: list[str], *attributes: bytes, domain: str = ""
) -> bytes:
    names = b"".join(field(1, n) for n in inputs) + b"".join(field(2, n) for n in outputs)
    more = b"".join(field(5, each) for each in attributes)
    return names + field(4, op) + more + (field(7, domain) if domain else b"")


def model(
    nodes: list[bytes],
    inputs: list[bytes],
    outputs: list[bytes],
    tensors: list[bytes] = [],  # noqa: B006  never changed
    *more: bytes,
) -> bytes:
    graph = b"".join(field(1, each) for each in nodes) + field(2, "graph")
    graph += b"".join(field(5, each) for each in tensors)
    graph += b"".join(field(11, each) for each in inputs)
    graph += b"".join(field(12, each) for each in outputs)
    return field(1, 8) + field(7, graph) + field(8, field(2, 13)) + b"".join(more)


WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def linear(batch: Dims = ("n",), **changes: list[bytes]) -> bytes:
    """(n, 2, 2) → (n, 4) → × WEIGHTS → softmax (n, 3)."""
    nodes = [
        node("Flatten", ["x"], ["flat"]),
        node("MatMul", ["flat", "w"], ["logits"]),
        node("Softmax", ["logits"], ["p"]),
    ]
    return model(
        changes.get("nodes", nodes),
        changes.get("inputs", [end("x", (*batch, 2, 2))]),
        changes.get("outputs", [end("p", (*batch, 3))]),
        changes.get("tensors", [tensor("w", WEIGHTS)]),
        *changes.get("more", []),
    )


DECLARED = """
name = "rest-or-task"
version = "1.0.2"
sha256 = "{sha256}"

[input]
name = "x"
kind = "features"
features = ["power.alpha", "ratio.theta/beta"]
ch_names = ["O1", "O2"]
window_s = 2
sfreq = 250
unit = "V"
low = 0
high = 10
shape = [2, 2]
order = "features, channels"

[[outputs]]
name = "p"
shape = [3]
classes = ["rest", "task", "other"]
"""


def written(folder: Path, data: bytes, declared: str = DECLARED) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    path.with_suffix(".toml").write_text(declared.replace("{sha256}", sha256), encoding="utf-8")
    return path
