from typing import Any

def encode(rows: Any, bits: int, out: Any, *, lanes: int = 8) -> int:
    """int32 `rows` (n_samples, n_channels), each within signed `bits`, into `out`.

    Bytes written, or 0 when `out` is too small: then packed rows are as good. ValueError for
    shapes or bits that cannot be; the lock is released. `lanes`: 64-bit lanes of the widest vectors
    to use where the processor has them (8, 4, or 1 for none); the bytes are the same.
    """

def decode(body: Any, bits: int, out: Any, *, lanes: int = 8) -> bool:
    """Rows of `body` into int32 `out` (n_samples, n_channels); False when the body is damaged."""
