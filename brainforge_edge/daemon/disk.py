"""How long the disk will do. Runs in: supervisor."""

import os
from collections.abc import Iterable
from typing import Any

from brainforge_edge.core.stream import StreamInfo


def room_left(root: str, streams: Iterable[StreamInfo]) -> dict[str, Any]:
    """Free bytes, and for how many hours they do at packed size: the codec only makes it longer."""
    try:
        usage = os.statvfs(root)
    except OSError as error:
        return {"free_bytes": None, "hours_left": None, "error": str(error)}
    free = usage.f_bavail * usage.f_frsize
    rate = sum(info.row_bytes * info.sfreq for info in streams)
    return {"free_bytes": free, "hours_left": round(free / rate / 3600, 1) if rate else None}
