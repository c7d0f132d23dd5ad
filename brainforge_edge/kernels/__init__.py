"""Compiled kernels (floor 1). A binary older than its sources is refused here, not trusted."""

import hashlib
from pathlib import Path

from brainforge_edge.kernels.crc import EXT_DIGEST

__all__ = ["EXT_DIGEST"]

_SUFFIXES = (".pyx", ".pxd", ".h")


def _source_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _SUFFIXES and path.name != "digest.h":
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _refuse_stale(folder: Path) -> None:
    """Raise ImportError when the sources beside an editable install differ from the binary's."""
    if (folder / "crc.pyx").exists() and _source_digest(folder) != EXT_DIGEST:
        msg = (
            "the compiled kernels are older than ext/: they were built from other sources. "
            "Run: pip install -c constraints.txt -e '.[demo]'"
        )
        raise ImportError(msg)


_refuse_stale(Path(__file__).parents[2] / "ext")
