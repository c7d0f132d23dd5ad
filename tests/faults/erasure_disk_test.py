"""Old blocks: the image of an ext4 disk is searched, free blocks and the file system's journal with it.

Box and aggregator lie on it. Without the overwriting the same search finds what was erased: the control.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from brainforge_edge.cloud.store import keys as shelf_module
from brainforge_edge.cloud.store.erasure import StoreErasure
from brainforge_edge.fleet.erasure import BoxErasure
from brainforge_edge.recorder import keyfile
from brainforge_edge.recorder.keyfile import KEYS_FILE
from brainforge_edge.storage import wipe as wipe_module
from brainforge_edge.storage.files import Disk, SystemDisk
from tests.benchmarks.loopdisk import LoopDisk, is_possible, run
from tests.unit.erasure_material import (
    NOW_NS,
    PEOPLE,
    RECORDING,
    deliver,
    hits,
    order,
    pairs,
    session,
)

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not is_possible(), reason="needs root and a loop device"),
]
Wiping = Callable[[pytest.MonkeyPatch], None]


def no_wiping(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a program that only removes."""

    def replaced(path: Path, data: bytes, disk: Disk) -> None:
        disk.atomic_write(path, data)

    def removed(path: Path, disk: Disk) -> None:
        disk.unlink(path)

    monkeypatch.setattr(keyfile, "replace_wiped", replaced)
    monkeypatch.setattr(shelf_module, "replace_wiped", replaced)
    monkeypatch.setattr(shelf_module, "wipe", removed)
    monkeypatch.setattr(wipe_module, "wipe", removed)


def wiping(_: pytest.MonkeyPatch) -> None:
    pass


@pytest.mark.parametrize(("does", "is_gone"), [(wiping, True), (no_wiping, False)])
def test_no_block_of_the_disk_holds_a_key_that_was_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: Wiping, *, is_gone: bool
) -> None:
    """Also none of the many keys files that were replaced while others recorded."""
    does(monkeypatch)
    disk = SystemDisk()
    image = tmp_path / "image"
    with LoopDisk(image, tmp_path / "mount", mib=48) as loop:
        box, cloud = loop.mount / "box", loop.mount / "cloud"
        made = session(box, tmp_path / "private", pairs(tmp_path / "private"), disk)
        for seed in range(2, 12):
            made.sealing("p1", seed=seed).key_for(RECORDING, "p1")
            run("sync", "-f", loop.mount)
        deliver(made, cloud)
        secrets = {who: made.secrets(who) for who in PEOPLE}
        run("sync", "-f", loop.mount)
        before = sum(hits([image], secrets["p2"]["wrapped"]).values())
        assert before >= 6, "three wrapped keys at the box, three at the aggregator"
        for erasure in (
            BoxErasure(
                made.recordings, order(), order_id="1", utc_ns=NOW_NS, disk=disk,
                written=lambda _: [],
            ),
            StoreErasure(cloud, order(), order_id="1", utc_ns=NOW_NS, disk=disk),
        ):  # fmt: skip
            erasure.run()
        run("sync", "-f", loop.mount)
        after = sum(hits([image], secrets["p2"]["wrapped"]).values())
        print({"before": before, "after": after, "bytes": image.stat().st_size})
        assert (after == 0) if is_gone else after > 0
        assert hits([image], secrets["p2"]["raw"]) == {}
        for who in ("p1", "p3", "p4"):
            assert sum(hits([image], secrets[who]["wrapped"]).values()) >= 6
        assert (made.folder / KEYS_FILE).exists()
