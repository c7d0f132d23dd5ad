"""The audit file is at most one recording behind what was freed, and the next start says the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import EdgeConfig, NodeConfig, RetentionConfig
from brainforge_edge.core.errors import StorageError
from brainforge_edge.fleet import keeper as keeper_module
from brainforge_edge.fleet.keeper import Keeper
from brainforge_edge.storage.audit import AUDIT_FILE, check_audit
from brainforge_edge.storage.files import Disk
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_material import LOG_ID
from tests.unit.retention_material import SIGNER, Stand


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "RESTS", 0.0)


def closed(root: Path, name: str, seed: int, n: int = 4) -> Stand:
    stand = Stand(root, n=n, name=name, seed=seed)
    stand.close()
    stand.attest_all(age_days=4000)
    return stand


class NoThread:
    """The thread's work is done by the test itself."""

    def __init__(self, *_: object) -> None: ...
    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...


def keeper(root: Path, disk: Disk, *, enabled: bool = True) -> Keeper:
    config = EdgeConfig(
        node=NodeConfig(id="box", root=str(root)),
        retention=RetentionConfig(enabled=enabled, keep_days=0.0),
    )
    made: Any = NoThread
    return Keeper(
        config, log_id=LOG_ID, verifier=SIGNER.public, clock=SystemClock(), disk=disk, thread=made
    )


def told(root: Path) -> dict[str, tuple[int, int]]:
    """Segments and bytes by recording."""
    found: dict[str, tuple[int, int]] = {}
    path = root / AUDIT_FILE
    for line in path.read_text().splitlines() if path.exists() else ():
        step = json.loads(line)
        n, size = found.get(step["recording"], (0, 0))
        assert step["facts"]["segments"] > 0
        found[step["recording"]] = n + step["facts"]["segments"], size + step["facts"]["bytes"]
    return found


def freed(*stands: Stand) -> dict[str, tuple[int, int]]:
    return {s.folder.name: (len(s.freed), sum(line.size for line in s.freed)) for s in stands}


class KilledAtUnlink(UnsyncedDisk):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def unlink(self, path: Path) -> None:
        if path.suffix == ".seg":
            self.at -= 1
            if self.at < 0:
                raise Killed
        super().unlink(path)


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("enabled", [True, False])
def test_who_is_killed_is_one_recording_behind_and_the_next_start_catches_up(
    tmp_path: Path, at: int, *, enabled: bool
) -> None:
    one, two = closed(tmp_path, "one", 1), closed(tmp_path, "two", 2)
    with pytest.raises(Killed):
        keeper(tmp_path, KilledAtUnlink(at))._free()
    assert told(tmp_path) == (freed(one) if at >= 4 else {})
    again = keeper(tmp_path, UnsyncedDisk(), enabled=enabled)
    again._free()
    stands = (one, two) if enabled or at >= 4 else (one,)
    assert told(tmp_path) == freed(*stands)
    assert check_audit(tmp_path, UnsyncedDisk()).broken == ()
    whole = (tmp_path / AUDIT_FILE).read_bytes()
    keeper(tmp_path, UnsyncedDisk())._free() if enabled else again._free()
    assert (tmp_path / AUDIT_FILE).read_bytes() == whole, "nothing is said twice"


class NoAudit(UnsyncedDisk):
    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if name == "open" and str(args[0]).endswith(AUDIT_FILE):
            raise OSError(5, "Input/output error")
        return super().syscall(name, function, *args)


def test_what_could_not_be_said_is_said_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = closed(tmp_path, "one", 1), closed(tmp_path, "two", 2)
    running = keeper(tmp_path, NoAudit())
    with pytest.raises(StorageError) as failed:
        running._free()
    assert failed.value.code == "storage.io"
    assert (one.here, two.here) == ([], []), "it goes on: each line of freed has its evidence"
    monkeypatch.setattr(running, "_disk", UnsyncedDisk())
    running._free()
    assert told(tmp_path) == freed(one, two)


def test_an_end_at_any_call_loses_no_word_of_the_audit(tmp_path: Path) -> None:
    at = 0
    while True:
        root = tmp_path / f"r{at}"
        one = closed(root, "one", 1, n=2)
        disk = FaultyDisk(at=at, fault="kill_torn")
        try:
            keeper(root, disk)._free()
        except Killed:
            keeper(root, UnsyncedDisk())._free()
        assert told(root) == freed(one)
        assert one.here == []
        if disk.count <= at:
            break
        at += 1
    assert at > 12
