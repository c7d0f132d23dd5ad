"""BDF+ (24-bit EDF+). Runs in: `brainforge-edge export`.

Digital values are the recorded integers.
"""

from pathlib import Path

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype
from brainforge_edge.export import edfplus
from brainforge_edge.export.recording import StreamRows

SUFFIX = ".bdf"


def write(rows: StreamRows, path: Path) -> None:
    """Write a BDF+ file; needs memory for all rows twice. StorageError if values do not fit 24 bits."""
    info = rows.info
    if not info.dtype.is_integer:
        raise _misfit(info.stream_id, f"its values are {info.dtype.name}, not integers")
    line = rows.line()
    width = edfplus.BDF
    if info.dtype is Dtype.I32 and (line.min() < width.least or line.max() > width.most):
        raise _misfit(info.stream_id, "some of its values need more than 24 bits")
    edfplus.save(rows, line, info.channels, path, width)


def _misfit(stream_id: str, why: str) -> StorageError:
    return edfplus.misfit(stream_id, edfplus.BDF, why, "Export it as fif or csv")
