"""The safety monitor's look at a box: what the supervisor sees, and whether that is all it has to see. Pure.

Runs in: supervisor, its asyncio loop.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from brainforge_edge.core import ipc
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.daemon.child import Child

BLIND_S = 4.0  # a worker that runs and is silent for this long is not seen any more


def seen(
    *,
    now_ns: int,
    acquirers: Iterable[Child],
    streams: Collection[StreamInfo],
    worn: Collection[str],
    disk: Mapping[str, Any],
    disk_refuses: bool | None,
) -> ipc.Watch:
    """`worn` are the devices of the session, or none: then all of them have to be seen.

    A worker that ended is seen: its device is lost, and it is started again. One that runs and says
    nothing is not, nor is a disk that does not tell how full it is.
    """
    children = {child.name.partition(":")[2]: child for child in acquirers}
    watched = set(worn) or set(children)
    blind = [name for name in watched if name in children and is_silent(children[name])]
    own = {name: [info for info in streams if info.device == name] for name in children}
    return ipc.Watch(
        t_ns=now_ns,
        is_safe=not blind and disk_refuses is not None,
        links={name: str(child.stats.get("link", "down")) for name, child in children.items()},
        unrecorded=tuple(name for name, child in children.items() if _is_unrecorded(child.stats)),
        channels={
            name: judged
            for name, child in children.items()
            if (judged := _channels(child.stats, own[name])) is not None
        },
        bytes_s={
            name: sum(info.row_bytes * info.sfreq for info in infos)
            for name, infos in own.items()
            if infos
        },
        free_bytes=disk.get("free_bytes"),
        disk_refuses=disk_refuses,
    )


def is_silent(child: Child) -> bool:
    """It runs, and says nothing."""
    return child.ready and child.silent_s > BLIND_S


def _is_unrecorded(stats: Mapping[str, Any]) -> bool:
    """It has nothing open, and the last time that it was to open something it could not."""
    recording = stats.get("recording") or {}
    return recording.get("error") is not None and not recording.get("name")


def _channels(stats: Mapping[str, Any], infos: list[StreamInfo]) -> tuple[int, int] | None:
    """Good channels and all of them, where the driver judges them; troubles are counted by kind, some
    drivers do so for each stream."""
    status = stats.get("device") or {}
    if "channels" not in status or not infos:
        return None
    counted = status["channels"].values()
    troubles = sum(sum(n.values()) if isinstance(n, dict) else int(n) for n in counted)
    most = max(info.n_channels for info in infos)
    return max(0, most - troubles), most
