"""A trained reservoir as one file: magic, SHA-256 of the rest, MessagePack. Runs in: pipeline worker; no I/O.

All weights lie in it, so that no other version of a random generator makes another network of a seed.
"""

import hashlib
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.signal.reservoir import MOST_UNITS, Network, Readout, is_usable

MAGIC: Final = b"BFRES\x01\r\n"
MOST_BYTES: Final = 16 * 1024 * 1024
_HEAD: Final = len(MAGIC) + 32


class _Array(msgspec.Struct, frozen=True, array_like=True):
    shape: tuple[int, ...]
    data: bytes  # little-endian, C order


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    sfreq: float
    ch_names: tuple[str, ...]
    outputs: tuple[str, ...]
    leak: float
    inputs: _Array
    bias: _Array
    weights: _Array
    links: _Array
    mean: _Array
    sd: _Array
    readout: _Array


def encoded(readout: Readout) -> bytes:
    """The file's bytes, the same for the same readout."""
    fixed = readout.network
    body = msgspec.msgpack.encode(
        _File(
            readout.name,
            readout.sfreq,
            readout.ch_names,
            readout.outputs,
            fixed.leak,
            _packed(fixed.inputs),
            _packed(fixed.bias),
            _packed(fixed.weights),
            _packed(fixed.links),
            _packed(readout.mean),
            _packed(readout.sd),
            _packed(readout.weights),
        )
    )
    return MAGIC + hashlib.sha256(body).digest() + body


def decoded(data: bytes, source: str) -> Readout:
    """ConfigError `reservoir_file`: not such a file, damaged, or parts that do not fit each other."""
    if not data.startswith(MAGIC):
        raise _refused(source, "it is no file of a trained reservoir")
    if len(data) > MOST_BYTES:
        raise _refused(source, f"it has {len(data)} bytes, allowed are {MOST_BYTES}")
    body = data[_HEAD:]
    if hashlib.sha256(body).digest() != data[len(MAGIC) : _HEAD]:
        raise _refused(source, "its digest is not that of its content: it is damaged or cut off")
    try:
        found = msgspec.msgpack.decode(body, type=_File)
        readout = Readout(
            found.name,
            found.sfreq,
            found.ch_names,
            found.outputs,
            Network(
                _floats(found.inputs),
                _floats(found.bias),
                _floats(found.weights),
                _unpacked(found.links, np.int32),
                found.leak,
            ),
            _floats(found.mean),
            _floats(found.sd),
            _floats(found.readout),
        )
        if readout.network.inputs.ndim != 2 or readout.network.n_units > MOST_UNITS:
            raise _refused(source, "its network has another shape than networks have")
        readout.network.start()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _refused(source, f"its content is no network: {error}") from error
    if not is_usable(readout):
        raise _refused(source, "its parts do not fit each other")
    return readout


def _packed(values: NDArray[Any]) -> _Array:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return _Array(values.shape, np.ascontiguousarray(little).tobytes())


def _floats(array: _Array) -> NDArray[np.float32]:
    return _unpacked(array, np.float32)


def _unpacked(array: _Array, dtype: type[Any]) -> NDArray[Any]:
    if not 1 <= len(array.shape) <= 2 or min(array.shape) < 0:
        msg = f"an array of shape {array.shape}"
        raise ValueError(msg)
    little = np.frombuffer(array.data, np.dtype(dtype).newbyteorder("<"))
    return little.reshape(array.shape).astype(dtype)


def _refused(source: str, why: str) -> ConfigError:
    return ConfigError(
        "reservoir_file",
        f"{source} cannot be used as a trained reservoir",
        why=why,
        remedy="Copy the file again from where it was trained, or train it anew",
    )
