"""The power goes at any write of an erasure: at the aggregator, and of a whole order with its exports at a box."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from brainforge_edge.cloud.store.erasure import StoreErasure
from brainforge_edge.cloud.store.keys import KeyShelf
from brainforge_edge.core.errors import StorageError
from brainforge_edge.fleet.erasurelist import list_path
from brainforge_edge.recorder.exports import read_notes
from brainforge_edge.recorder.keyscraps import ErasedKey
from brainforge_edge.security.order import new_order
from brainforge_edge.storage.files import Disk
from tests.unit.erasure_material import (
    NOW_NS,
    PEOPLE,
    ROLES,
    Session,
    deliver,
    found_by,
    hits,
    noted,
    opened_by,
    order,
    pairs,
    session,
)
from tests.unit.orders_material import CLINICIAN, FLEET, jobs_at, sent, signed
from tests.unit.recorder_faulty_disk import Killed, UnsyncedDisk
from tests.unit.recorder_powercut_disk import PowerCutDisk

OTHERS = [who for who in PEOPLE if who != "p2"]
SEEDS = 8  # of what is on the platter, for each cut
ALL = [list(ROLES)] * len(OTHERS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Session:
    root = tmp_path_factory.mktemp("site")
    return session(root / "box", root / "private", pairs(root / "private"), UnsyncedDisk())


def erase(cloud: Path, disk: Disk) -> StoreErasure:
    erasure = StoreErasure(cloud, order(), order_id="77", utc_ns=NOW_NS, disk=disk)
    erasure.run()
    return erasure


def cut(source: Path, disk: PowerCutDisk) -> None:
    """What was there is gone; what the platter has lies in its place."""
    after = source.with_name(f"{source.name}-after")
    disk.platter(after)
    shutil.rmtree(source)
    after.rename(source)


def is_marked(cloud: Path, made: Session) -> bool:
    """Whether the key can neither be opened nor come again from the box."""
    try:
        found = KeyShelf(cloud).find(made.log_id, made.keys["p2"].key_id.hex())
    except StorageError:
        return False
    return isinstance(found, ErasedKey)


@pytest.mark.parametrize("mutant", ["", "no_folder_sync"])
def test_a_power_cut_at_any_write_costs_no_other_key_at_the_aggregator(
    made: Session, tmp_path: Path, mutant: str
) -> None:
    """What had ended stays so; what was cut off is ended by the next run. A disk that forgets more is caught."""
    deliver(made, tmp_path / "whole")
    secrets = made.secrets("p2")["wrapped"]
    caught, cuts = 0, 0
    for at in range(40):
        is_dead = False
        for seed in range(SEEDS):
            cloud = tmp_path / f"{at}-{seed}"
            shutil.copytree(tmp_path / "whole", cloud)
            disk = PowerCutDisk(cloud, at=at, seed=SEEDS * at + seed, mutant=mutant)
            disk.take_stock(cloud)
            with contextlib.suppress(Killed):
                erase(cloud, disk)
            is_dead = disk.is_dead
            cut(cloud, disk)
            find = KeyShelf(cloud).find
            is_whole = [opened_by(made, who, find) for who in OTHERS] == ALL
            is_back = not is_dead and (not is_marked(cloud, made) or bool(hits([cloud], secrets)))
            caught += not is_whole or is_back
            if not mutant:
                assert (is_whole, is_back) == (True, False), at
                assert len(erase(cloud, UnsyncedDisk()).erased) == 1, at
                assert is_marked(cloud, made)
                assert hits([cloud], secrets) == {}, at
        cuts += is_dead
        if not is_dead:
            break
    assert 5 < cuts < 40
    assert bool(caught) == bool(mutant)


def test_a_power_cut_at_any_write_of_an_order_at_a_box_leaves_it_to_be_ended_when_it_comes_again(
    made: Session, tmp_path: Path
) -> None:
    """Its counter, the keys, a file that was exported, the list."""
    file = signed(new_order(order()), FLEET, CLINICIAN)
    at = 0
    while True:
        box = tmp_path / "all" / "box"
        shutil.copytree(made.root, box)
        one = Session(box, made.private, made.recipients, made.disk, made.log_id, made.keys)
        secrets = one.secrets("p2")["wrapped"]
        export = noted(one, "rec-1_a.csv")
        rows, (note,) = export.read_bytes(), read_notes(one.folder, UnsyncedDisk())
        disk = PowerCutDisk(box.parent, at=at, seed=at)
        disk.take_stock(box.parent)
        with contextlib.suppress(Killed):
            jobs_at(one, disk=disk).take(file.id, sent(file))
        cut(box.parent, disk)
        if export.exists() and export.read_bytes() == rows:  # as it was, with the time that it had
            os.utime(export, ns=(note.mtime_ns, note.mtime_ns))
        assert [found_by(one, who) for who in OTHERS] == ALL, at
        was_done = not disk.is_dead
        assert not was_done or (found_by(one, "p2") == [] and not export.exists())
        assert not was_done or list_path(box, file.id).exists()
        said, is_final = jobs_at(one, disk=UnsyncedDisk()).take(file.id, sent(file))
        assert (said.state, is_final) == ("done", True), at
        assert found_by(one, "p2") == [], at
        assert hits([box.parent], [*secrets, rows]) == {}, at
        assert not export.exists(), at
        shutil.rmtree(box.parent)
        if was_done:
            break
        at += 1
    assert at > 25
