"""An erasure that is killed, or loses its power, anywhere: the next run ends it, and no other key is ever lost."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from brainforge_edge.recorder.keyfile import KEYS_FILE
from tests.unit.erasure_material import (
    PEOPLE,
    RECORDING,
    ROLES,
    Session,
    erase,
    found_by,
    hits,
    noted,
    pairs,
    session,
)
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_powercut_disk import PowerCutDisk

OTHERS = [who for who in PEOPLE if who != "p2"]
Make = Callable[[Path], Session]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """As `prepared` needs it."""
    private = tmp_path_factory.mktemp("private")
    recipients = pairs(private)
    return lambda root: session(root, private, recipients, UnsyncedDisk())


def check_done(made: Session, secrets: list[bytes]) -> None:
    assert found_by(made, "p2") == []
    assert hits([made.root], secrets) == {}
    assert [found_by(made, who) for who in OTHERS] == [list(ROLES)] * 3


def prepared(make: Make, root: Path) -> Session:
    """With a keys file that was set aside, and an export below the root."""
    made = make(root / "box")
    path = made.folder / KEYS_FILE
    path.write_bytes(path.read_bytes()[:-3])
    made.sealing("p1", seed=2).key_for(RECORDING, "p1")
    return made


def test_killed_at_any_call_to_the_disk_it_is_run_again_and_no_other_key_is_ever_lost(
    tmp_path: Path, make: Make
) -> None:
    at = 0
    while True:
        made = prepared(make, tmp_path / str(at))
        secrets = made.secrets("p2")["wrapped"]
        export = noted(made, "rec-1_a.csv")
        disk = FaultyDisk(at=at, fault="kill" if at % 2 else "kill_torn")
        with contextlib.suppress(Killed):
            erase(made, disk)
        disk.bury()
        assert [found_by(made, who) for who in OTHERS] == [list(ROLES)] * 3, at
        again = erase(made, UnsyncedDisk())
        check_done(made, secrets)
        assert not export.exists()
        assert {each.kind for each in again.erased} == {"key", "export"}
        assert not [each for each in again.not_reached if each.kind == "export"], at
        shutil.rmtree(tmp_path / str(at))
        if not disk.is_dead:
            break
        at += 1
    assert at > 40


def test_a_power_cut_at_any_call_costs_no_other_key_and_the_next_run_ends_it(
    tmp_path: Path, make: Make
) -> None:
    at = 0
    while True:
        source = prepared(make, tmp_path / "source")
        secrets = source.secrets("p2")["wrapped"]
        disk = PowerCutDisk(source.root, at=at, seed=at)
        disk.take_stock(source.root)
        with contextlib.suppress(Killed):
            erase(source, disk)
        disk.platter(tmp_path / "after")
        made = Session(
            tmp_path / "after", source.private, source.recipients, UnsyncedDisk(), source.log_id,
            source.keys,
        )  # fmt: skip
        assert [found_by(made, who) for who in OTHERS] == [list(ROLES)] * 3, at
        erase(made, UnsyncedDisk())
        check_done(made, secrets)
        shutil.rmtree(tmp_path / "source")
        shutil.rmtree(tmp_path / "after")
        if not disk.is_dead:
            break
        at += 1
    assert at > 15


@pytest.mark.parametrize("mutant", ["no_sync", "no_folder_sync"])
def test_an_erasure_that_does_not_sync_is_caught(tmp_path: Path, make: Make, mutant: str) -> None:
    """The same cuts, on a disk that forgets more: a key of another participant is lost, or one comes back."""
    caught = 0
    for at in range(8, 40):
        source = prepared(make, tmp_path / f"s{at}")
        disk = PowerCutDisk(source.root, at=at, seed=at, mutant=mutant)
        disk.take_stock(source.root)
        with contextlib.suppress(Killed):
            erase(source, disk)
        disk.platter(tmp_path / f"a{at}")
        made = Session(
            tmp_path / f"a{at}", source.private, source.recipients, UnsyncedDisk(),
            source.log_id, source.keys,
        )  # fmt: skip
        is_others = [found_by(made, who) for who in OTHERS] == [list(ROLES)] * 3
        is_back = not disk.is_dead and found_by(made, "p2") != []
        caught += not is_others or is_back
    assert caught
