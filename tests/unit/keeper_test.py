"""The agent's thread beside its main loop: it goes on where one recording fails, and tells what went wrong."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import EdgeConfig, NodeConfig, RetentionConfig
from brainforge_edge.fleet import keeper as keeper_module
from brainforge_edge.fleet.keeper import Keeper
from brainforge_edge.fleet.retention import Outcome
from brainforge_edge.recorder.catalog import close_recording
from brainforge_edge.storage.audit import AUDIT_FILE, check_audit
from brainforge_edge.storage.room import Room
from tests.unit import retention_material
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import LOG_ID
from tests.unit.retention_material import SIGNER, Stand

MOST_S = 20.0


@pytest.fixture(autouse=True)
def signed_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SystemClock().utc_ns()
    assert now is not None
    monkeypatch.setattr(retention_material, "NOW", now)


def until(is_so: Callable[[], object]) -> None:
    """Another thread's work, which has no end that could be waited for."""
    end = time.monotonic() + MOST_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def keeper(root: Path, *, keep_days: float = 0.0) -> Keeper:
    config = EdgeConfig(
        node=NodeConfig(id="box", root=str(root)),
        retention=RetentionConfig(enabled=True, keep_days=keep_days),
    )
    return Keeper(
        config, log_id=LOG_ID, verifier=SIGNER.public, clock=SystemClock(), disk=UnsyncedDisk()
    )


def test_it_chains_what_is_there_and_what_it_is_told_of_and_frees_what_is_attested(
    tmp_path: Path,
) -> None:
    done = Stand(tmp_path, name="done")
    done.close()
    done.attest_all()
    left = Stand(tmp_path, name="left", seed=2)
    close_recording(left.folder, left.disk)
    running = keeper(tmp_path)
    running.start()
    try:
        until(lambda: len(left.chain) == 4 and done.here == [])
        begun = Stand(tmp_path, name="begun", n=2, seed=3)
        running.tell("begun")
        until(lambda: len(begun.chain) == 1)
        close_recording(begun.folder, begun.disk)
        running.tell("begun")
        until(lambda: len(begun.chain) == 2)
    finally:
        running.stop()
    size = sum(line.size for line in done.freed)
    assert running.stats() == {
        "keeper": {"chained": 6, "freed": 4, "freed_bytes": size},
        "error": None,
    }
    assert check_audit(tmp_path, UnsyncedDisk()) == (1, (), ())
    step = json.loads((tmp_path / AUDIT_FILE).read_text())
    assert (step["step"], step["recording"]) == ("freed", "done")
    assert step["facts"] == {"segments": 4, "bytes": size, "proof": "attestation"}


def test_a_recording_that_fails_is_told_of_and_the_others_go_on(tmp_path: Path) -> None:
    bad = Stand(tmp_path, name="bad")
    close_recording(bad.folder, bad.disk)
    (bad.folder / "chain").mkdir()
    good = Stand(tmp_path, name="good", seed=2)
    close_recording(good.folder, good.disk)
    running = keeper(tmp_path)
    running.start()
    try:
        until(lambda: len(good.chain) == 4)
        until(lambda: running.stats()["error"])
        assert running.stats()["error"]["code"].startswith("storage.")
        (bad.folder / "chain").rmdir()
        running.tell("bad")
        until(lambda: len(bad.chain) == 4)
        until(lambda: not running.stats()["error"])
    finally:
        running.stop()


def test_a_thread_that_failed_is_told_of_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(keeper_module, "extend_chain", fails)
    Stand(tmp_path)
    running = keeper(tmp_path)
    running.start()
    until(lambda: running.stats()["error"])
    running.stop()
    assert running.stats()["error"]["code"] == "error.keeper"
    assert running.stats()["error"]["remedy"]


@pytest.mark.parametrize(("used_percent", "left"), [(79.9, 4), (80.0, 0)])
def test_from_the_alarm_on_what_is_attested_goes_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used_percent: float, left: int
) -> None:
    monkeypatch.setattr(Room, "look", lambda _: (1, used_percent))
    young = Stand(tmp_path)
    young.close()
    young.attest_all(age_days=0)
    running = keeper(tmp_path, keep_days=7)
    looked = running._retention.once
    seen: list[int] = []

    def once() -> Outcome:
        outcome = looked()
        seen.append(len(young.here))
        return outcome

    monkeypatch.setattr(running._retention, "once", once)
    running.start()
    until(lambda: seen)
    running.stop()
    assert seen[0] == left


def test_impossible_lines_and_what_cannot_be_read_leave_the_thread_alive(tmp_path: Path) -> None:
    """Each in a recording of its own; the others are chained and freed beside them."""
    for name in ("a", "b", "c"):
        bad = Stand(tmp_path, n=1, name=name)
        bad.close()
        bad.attest_all()
    chain = tmp_path / "recordings" / "a" / "chain"
    chain.write_bytes(chain.read_bytes().replace(b'"size":', b'"size":-'))
    line = (
        b'{"log_id":"","stream_id":"a\\u0000b","number":1,"segment":"x","segment_id":"","size":1,'
    )
    line += b'"sha256":"","held":[],"named":[],"freed_utc_ns":null}\n'
    (tmp_path / "recordings" / "b" / "freed").write_bytes(line)
    card = tmp_path / "recordings" / "c" / "recording.json"
    card.unlink()
    card.mkdir()
    good = Stand(tmp_path, name="good", seed=2)
    good.close()
    good.attest_all()
    running = keeper(tmp_path)
    running.start()
    try:
        until(lambda: not good.here)
        until(lambda: running.stats()["error"])
        later = Stand(tmp_path, name="later", n=2, seed=3)
        running.tell("later")
        until(lambda: len(later.chain) == 1)
    finally:
        running.stop()
    assert running.stats()["error"]["code"].startswith("storage.")
    assert "/c/recording.json" in running.stats()["error"]["what"]
