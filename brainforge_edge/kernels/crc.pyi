from typing import Any

EXT_DIGEST: str

def crc32c(data: Any, start: int = 0) -> int:
    """CRC-32C of a C-contiguous byte buffer, continued from `start`."""

def crc32c_portable(data: Any, start: int = 0) -> int:
    """The same without CPU instructions: what a machine without them computes."""
