"""EDF+ (16 bit). Runs in: `brainforge-edge export`.

Digital values are the recorded integers where 16 bits hold them. Where not, the lowest bits of a
channel are rounded off, but only if that was asked for; its header says how many.
"""

from pathlib import Path

import msgspec
import numpy as np

from brainforge_edge.core.errors import StorageError
from brainforge_edge.export import edfplus
from brainforge_edge.export.recording import StreamRows

SUFFIX = ".edf"
_MEG = {"mag", "grad", "ref_meg"}


def write(rows: StreamRows, path: Path, *, is_lossy: bool = False) -> None:
    """Write an EDF+ file; needs memory for all rows three times.

    StorageError for magnetic channels and floats, and unless `is_lossy` for values beyond 16 bits.
    """
    info = rows.info
    if {channel.type for channel in info.channels} & _MEG:
        why = (
            "it has magnetic channels: the format has no coils, and 16 bits do not hold their range"
        )
        raise _misfit(info.stream_id, why, "Export it as fif")
    if not info.dtype.is_integer:
        why = f"its values are {info.dtype.name}, not integers"
        raise _misfit(info.stream_id, why, "Export it as fif or csv")
    line = rows.line()
    bits = [
        _bits_off(int(low), int(high)) for low, high in zip(line.min(0), line.max(0), strict=True)
    ]
    if any(bits) and not is_lossy:
        why = f"the format has 16 bits, and it would lose up to {max(bits)} bits of its values"
        raise _misfit(info.stream_id, why, "Export it as bdf, or give --lossy to round them off")
    channels = [
        msgspec.structs.replace(channel, scale=channel.scale * 2**n)
        for channel, n in zip(info.channels, bits, strict=True)
    ]
    remarks = [f"lowest {n} bits rounded off" if n else "" for n in bits]
    rounded = np.rint(line / np.exp2(bits)) if any(bits) else line
    edfplus.save(rows, rounded.astype("<i2"), channels, path, edfplus.EDF, remarks=remarks)


def _bits_off(low: int, high: int) -> int:
    """How many bits must go so that what is left, rounded, fits."""
    n = 0
    while round(low / 2**n) < edfplus.EDF.least or round(high / 2**n) > edfplus.EDF.most:
        n += 1
    return n


def _misfit(stream_id: str, why: str, remedy: str) -> StorageError:
    return edfplus.misfit(stream_id, edfplus.EDF, why, remedy)
