"""Jobs at a box: orders that came over the network, carried out once, told of as often as they are asked for."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core import wire
from brainforge_edge.fleet.erasurelist import list_path
from brainforge_edge.fleet.orders import ORDERS_FILE
from brainforge_edge.security.erasure import Erasure, SignedErasure
from brainforge_edge.security.order import OrderFile, new_order
from tests.unit.erasure_material import DAY_NS, NOW_NS, Make, Session, found_by, order
from tests.unit.orders_material import (
    CLINICIAN,
    FLEET,
    STRANGER,
    FixedClock,
    body_of,
    desired,
    jobs_at,
    raw,
    sent,
    signed,
)
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk


def erasing(participant: str = "p2", **fields: object) -> OrderFile:
    return signed(new_order(order(participant, **fields)), FLEET, CLINICIAN)


def take(
    made: Session, file: OrderFile, clock: FixedClock | None = None
) -> tuple[wire.JobStatus, bool]:
    return jobs_at(made, clock=clock).take(file.id, sent(file))


def test_a_job_is_done_once_and_told_of_again_and_again(make: Make, tmp_path: Path) -> None:
    made = make(tmp_path / "box")
    file = erasing()
    said, is_final = take(made, file)
    assert (said.state, said.error, is_final) == ("done", None, True)
    done = msgspec.json.decode(
        msgspec.json.decode(said.done, type=SignedErasure).body, type=Erasure
    )
    assert (done.order, done.participant) == (file.id, "p2")
    assert {each.kind for each in done.erased} == {"key"}
    assert found_by(made, "p2") == []
    assert found_by(made, "p1")
    before = list_path(made.root, file.id).read_bytes()
    later = FixedClock(NOW_NS + 2 * DAY_NS)
    again, is_final = take(made, file, clock=later)
    assert (again.state, again.done, is_final) == ("done", said.done, True)
    assert list_path(made.root, file.id).read_bytes() == before


REFUSED: dict[str, tuple[str, Callable[[], OrderFile]]] = {
    "unsigned": ("order_signer_missing", lambda: new_order(order())),
    "the fleet alone": ("order_signer_missing", lambda: signed(new_order(order()), FLEET)),
    "the clinician alone": (
        "order_signer_missing", lambda: signed(new_order(order()), CLINICIAN),
    ),
    "a stranger": ("order_unknown_signer", lambda: signed(new_order(order()), FLEET, STRANGER)),
    "another node": ("order_for_another", lambda: erasing(nodes=("bed-2",))),
    "another log": ("order_for_another", lambda: erasing(log_ids=("11" * 16,))),
    "expired": ("order_expired", lambda: erasing(expires_utc_ns=NOW_NS)),
    "stimulate, one signer": (
        "order_signer_missing", lambda: raw({"kind": "stimulate"}, FLEET),
    ),
    "stimulate, two signers": (
        "order_unknown_kind", lambda: raw({"kind": "stimulate"}, FLEET, CLINICIAN),
    ),
    "key_export, one signer": (
        "order_signer_missing", lambda: raw({"kind": "key_export"}, CLINICIAN),
    ),
    "key_export, two signers": (
        "order_unknown_kind", lambda: raw({"kind": "key_export"}, FLEET, CLINICIAN),
    ),
    "a kind that nobody knows": (
        "order_unknown_kind", lambda: raw({"kind": "reboot"}, FLEET, CLINICIAN),
    ),
    "a desired state": ("order_unknown_kind", lambda: raw(body_of(desired()), FLEET)),
    "no kind": ("order_unreadable", lambda: raw({}, FLEET, CLINICIAN)),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_any_other_job_is_refused_with_its_reason_and_nothing_is_touched(
    make: Make, tmp_path: Path, case: str
) -> None:
    code, file_of = REFUSED[case]
    made = make(tmp_path / "box")
    keys = (made.folder / "keys").read_bytes()
    said, is_final = take(made, file_of())
    assert (said.state, is_final) == ("refused", True)
    assert said.error is not None
    assert said.error["code"] == f"security.{code}"
    assert (made.folder / "keys").read_bytes() == keys
    assert not (made.root / ORDERS_FILE).exists()


def test_a_job_under_another_jobs_name_is_refused(make: Make, tmp_path: Path) -> None:
    made = make(tmp_path / "box")
    said, is_final = jobs_at(made).take("0" * 16, sent(erasing()))
    assert (said.state, is_final) == ("refused", True)
    assert said.error is not None
    assert said.error["code"] == "security.order_of_another_job"


def test_a_box_without_the_time_waits_with_a_job(make: Make, tmp_path: Path) -> None:
    made, clock = make(tmp_path / "box"), FixedClock(None)
    said, is_final = take(made, erasing(), clock=clock)
    assert (said.state, is_final) == ("waiting", False)
    assert said.error is not None
    assert said.error["code"] == "security.order_time_unknown"
    assert not (made.root / ORDERS_FILE).exists()
    clock.utc = NOW_NS + 1
    assert take(made, erasing(), clock=clock)[0].state == "done"


def test_an_older_job_is_refused_behind_a_newer_one(make: Make, tmp_path: Path) -> None:
    made = make(tmp_path / "box")
    assert take(made, erasing(counter=8, participant="p1"))[0].state == "done"
    for counter in (7, 8):
        said, is_final = take(made, erasing(counter=counter))
        assert (said.state, is_final) == ("refused", True)
        assert said.error is not None
        assert said.error["code"] == "security.order_replayed"
    assert found_by(made, "p2")


def test_who_is_being_recorded_is_erased_when_the_recording_is_over(
    make: Make, tmp_path: Path
) -> None:
    made = make(tmp_path / "box")
    (path,) = sorted((made.folder / "head-p2-eeg").glob("0002.seg"))
    with path.open("r+b"):
        said, is_final = take(made, erasing())
        assert (said.state, is_final) == ("begun", False)
        assert said.error is not None
        assert said.error["code"] == "session.participant_recorded"
        assert found_by(made, "p2")
        assert take(made, erasing(counter=2, participant="p3"))[0].state == "done"
    assert take(made, erasing())[0].state == "done"
    assert found_by(made, "p2") == []


def test_killed_at_any_call_a_job_is_done_when_it_comes_again(make: Make, tmp_path: Path) -> None:
    """Between the counter and the work, too; and afterwards it is never done a second time."""
    at = 0
    while True:
        made = make(tmp_path / f"box-{at}")
        file = erasing()
        finished = False
        with contextlib.suppress(Killed):
            jobs_at(made, disk=FaultyDisk(at=at)).take(file.id, sent(file))
            finished = True
        said, is_final = jobs_at(made, disk=UnsyncedDisk()).take(file.id, sent(file))
        assert (said.state, is_final) == ("done", True)
        assert found_by(made, "p2") == []
        if finished:
            break
        at += 3
    assert at > 20
