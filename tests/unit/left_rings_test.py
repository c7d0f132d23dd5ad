"""Rings that an earlier process left: taken up, or left alone and named; never removed on suspicion."""

from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from brainforge_edge.acquisition.streams import RING_S, Streams
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.storage.files import SystemDisk
from tests.unit.recorder_material import seeded

CAPACITY_AT = 16  # in the header, rings/layout.py


def info(device: str) -> StreamInfo:
    return StreamInfo(f"{device}-mag", device, 100.0, Dtype.I24, (ChannelInfo("a"),))


def left(folder: Path, device: str) -> Path:
    """A ring with 5 rows whose writer is gone."""
    path = folder / f"{device}-mag.ring"
    ring = SampleRing.create(path, info(device), seconds=RING_S)
    ring.push(SampleBlock(f"{device}-mag", 1, 0, 0, np.zeros((5, 1), dtype=np.int32)))
    ring.close()
    return path


def streams(tmp_path: Path, device: str) -> Streams:
    log = RecordingLog(tmp_path / "recordings", disk=SystemDisk(), random=seeded())
    (tmp_path / "rings").mkdir(exist_ok=True)
    return Streams(device, rings=tmp_path / "rings", log=log)


def damaged(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "another version":
        data[8] += 1
    elif damage == "cut":
        del data[-64:]
    elif damage == "contradiction":
        data[CAPACITY_AT] = 3
    else:
        data[:] = b""
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["another version", "cut", "contradiction", "empty"])
def test_a_ring_that_cannot_be_read_is_named_and_left_also_one_of_a_longer_device_name(
    tmp_path: Path, damage: str
) -> None:
    found = streams(tmp_path, "opm")
    mine = left(tmp_path / "rings", "opm")
    others = left(tmp_path / "rings", "opm-left")  # another device, whose rings match our pattern
    damaged(others, damage)
    before = others.read_bytes()
    with capture_logs() as said:
        found.attach_left(is_resumed=False)
    assert others.read_bytes() == before
    assert [(line["event"], line["log_level"]) for line in said] == [("ring left alone", "warning")]
    assert str(others) in said[0]["what"]
    assert list(found.all) == ["opm-mag"]
    assert found.all["opm-mag"].ring.head == 5
    found.close()
    assert mine.exists()


def test_an_unreadable_ring_of_a_stream_is_replaced_when_its_device_announces_it(
    tmp_path: Path,
) -> None:
    found = streams(tmp_path, "opm")
    path = left(tmp_path / "rings", "opm")
    damaged(path, "another version")
    found.attach_left(is_resumed=False)
    assert not found.all
    found.adopt((info("opm"),), layout_changes=lambda: None, is_recorded=lambda: False)
    assert found.all["opm-mag"].ring.head == 0
    assert path.exists()
    found.close()
