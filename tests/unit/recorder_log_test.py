"""Log id, stream numbers and incarnations survive and are never given out twice."""

from pathlib import Path

import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.storage.files import SystemDisk
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed
from tests.unit.recorder_material import seeded


def test_the_log_id_is_made_once(tmp_path: Path) -> None:
    first = RecordingLog(tmp_path / "r", disk=SystemDisk(), random=seeded(1))
    second = RecordingLog(tmp_path / "r", disk=SystemDisk(), random=seeded(2))
    assert first.log_id == second.log_id
    assert len(first.log_id) == 16


def test_numbers_are_kept_and_incarnations_rise(tmp_path: Path) -> None:
    log = RecordingLog(tmp_path, disk=SystemDisk(), random=seeded())
    assert [log.stream_number(name) for name in ("a", "b", "a")] == [1, 2, 1]
    assert [log.open_incarnation("b", "") for _ in range(3)] == [1, 2, 3]
    again = RecordingLog(tmp_path, disk=SystemDisk(), random=seeded())
    assert again.open_incarnation("b", "") == 4
    assert again.streams() == {"a": 1, "b": 2}


def test_a_kill_at_any_call_never_gives_an_incarnation_twice(tmp_path: Path) -> None:
    at = 0
    while True:
        folder = tmp_path / str(at)
        given: list[int] = []
        disk = FaultyDisk(at=at, fault="kill_torn")
        try:
            log = RecordingLog(folder, disk=disk, random=seeded())
            given += [log.open_incarnation("a", ""), log.open_incarnation("a", "")]
        except Killed:
            pass
        log = RecordingLog(folder, disk=SystemDisk(), random=seeded(9))
        given.append(log.open_incarnation("a", ""))
        assert given == sorted(set(given))
        if disk.count <= at:
            break
        at += 1
    assert at > 10


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    log = RecordingLog(tmp_path, disk=SystemDisk(), random=seeded())
    (tmp_path / "streams.json").write_text('{"a": 3}')
    with pytest.raises(
        StorageError, match=r"streams\.json cannot be read.*run brainforge-edge repair"
    ):
        log.open_incarnation("a", "")
    (tmp_path / "log_id").write_bytes(b"short")
    with pytest.raises(StorageError, match="is not a log id"):
        RecordingLog(tmp_path, disk=SystemDisk(), random=seeded())
