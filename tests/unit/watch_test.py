"""What the safety monitor has to see, and where it is blind; the agent hears of it before all else."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from brainforge_edge.acquisition.since import row_since
from brainforge_edge.core import ipc
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.worker import WorkerChannel
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.watch import BLIND_S, seen
from brainforge_edge.rings.ring import SampleRing
from tests.unit.recorder_material import stream

INFO = stream(sfreq=1000.0, n_channels=4)
MS = 1_000_000


def child(name: str, *, is_ready: bool = True, silent_s: float = 0.0, **stats: Any) -> Child:
    """An acquire process that was heard so long ago; called where a loop runs."""

    async def never(_: Child, __: ipc.AnyMessage) -> None: ...

    made = Child(
        f"acquire:{name}", "none",
        start_message=lambda: ipc.Start(config=b"", worker=name), on_message=never,
    )  # fmt: skip
    made.ready = is_ready
    made.stats = stats
    made._heard = asyncio.get_running_loop().time() - silent_s
    return made


def look(children: Callable[[], list[Child]], **more: Any) -> ipc.Watch:
    async def looked() -> ipc.Watch:
        usual: dict[str, Any] = {
            "now_ns": 5, "acquirers": children(), "streams": [], "worn": (),
            "disk": {"free_bytes": 7}, "disk_refuses": False,
        }  # fmt: skip
        return seen(**(usual | more))

    return asyncio.run(looked())


def both() -> list[Child]:
    return [child("hat", link="streaming"), child("cap", silent_s=BLIND_S + 1, link="streaming")]


def test_a_process_that_runs_and_is_silent_is_not_seen_unless_it_is_nobodys_concern() -> None:
    assert not look(both).is_safe
    assert not look(both, worn=("hat", "cap")).is_safe
    assert look(both, worn=("hat",)).is_safe


def test_a_process_that_ended_is_seen_and_its_device_is_down() -> None:
    watch = look(lambda: [child("hat", is_ready=False, silent_s=60.0)], worn=("hat",))
    assert (watch.is_safe, watch.links) == (True, {"hat": "down"})


@pytest.mark.parametrize(
    ("recording", "unrecorded"),
    [
        ({"name": "", "error": {"code": "storage.full"}}, ("hat",)),
        ({"name": "ses-1", "error": {"code": "storage.full"}}, ()),
        ({"name": "", "error": None}, ()),
        (None, ()),
    ],
)
def test_a_recorder_that_could_not_open_its_files_is_seen(
    recording: dict[str, Any] | None, unrecorded: tuple[str, ...]
) -> None:
    watch = look(lambda: [child("hat", link="streaming", recording=recording)])
    assert (watch.is_safe, watch.unrecorded) == (True, unrecorded)


def test_a_disk_that_does_not_tell_is_not_seen() -> None:
    watch = look(lambda: [child("hat", link="streaming")], disk={}, disk_refuses=None)
    assert (watch.is_safe, watch.free_bytes, watch.links) == (False, None, {"hat": "streaming"})


@pytest.mark.parametrize(
    ("channels", "judged"),
    [({}, (4, 4)), ({"rail": 1, "flat": 1}, (2, 4)), ({"hat-eeg": {"rail": 3}}, (1, 4))],
)
def test_good_channels_are_counted_where_the_driver_judges_them(
    channels: dict[str, Any], judged: tuple[int, int]
) -> None:
    info = msgspec.structs.replace(INFO, stream_id="hat-eeg", device="hat")
    watch = look(lambda: [child("hat", device={"channels": channels})], streams=[info])
    assert watch.channels == {"hat": judged}
    assert watch.bytes_s == {"hat": info.row_bytes * 1000.0}
    assert look(lambda: [child("hat", device={})], streams=[info]).channels == {}


def test_the_monitors_word_is_heard_before_what_waited_longer() -> None:
    ours, theirs = socket.socketpair()
    worker = object.__new__(WorkerChannel)  # without its command line
    worker.channel = ipc.Channel(theirs)
    watch = ipc.Watch(t_ns=1, is_safe=True, links={})
    said: list[ipc.Message] = [
        ipc.Delivered(numbers=(1,)), watch, ipc.Delivered(numbers=(2,)), watch, ipc.Stop(),
        ipc.Delivered(numbers=(3,)),
    ]  # fmt: skip
    for message in said:
        ours.sendall(ipc.encode(message))
    heard: list[Any] = []
    worker.serve(
        {ipc.Watch: heard.append, ipc.Delivered: heard.append}, dict[str, Any], first=ipc.Watch
    )
    assert heard == [watch, watch, said[0], said[2]]
    for end in (ours, theirs):
        end.close()


@pytest.mark.parametrize(
    ("since_ms", "row"),
    [(0, 0), (1, 1), (99, 99), (99.5, 100), (100, 100), (4000, 100), (5000, 100), (5001, 101),
     (5099, 199), (5100, 200), (9000, 200)],
)  # fmt: skip
def test_rows_are_adopted_by_their_times_and_not_counted_back_over_a_gap(
    tmp_path: Path, since_ms: float, row: int
) -> None:
    ring = SampleRing.create(tmp_path / "s.ring", INFO, seconds=1)
    for seq in (0, 5000):  # 100 rows each, and a gap of nearly five seconds
        rows = np.zeros((100, 4), np.int32)
        ring.push(SampleBlock(INFO.stream_id, 1, seq, seq * MS, rows))
    assert row_since(ring, 0, ring.head, round(since_ms * MS)) == row
    ring.close()
