"""Who takes part: consent given and withdrawn, seats, the wrong participant corrected with both ids kept."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from brainforge_edge.core.errors import SessionError, StorageError
from brainforge_edge.core.events import EventType
from brainforge_edge.sessions.machine import Cause
from brainforge_edge.sessions.metadata import Consent, Participants, Worn, withdrawal
from brainforge_edge.storage.audit import AUDIT_FILE, check_audit
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.session_material import WORN, HandClock, S, session
from tests.unit.session_store_material import Box

UTC = 1_800_000_000 * S


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path, HandClock(utc_ns=UTC))
    yield made
    made.close()


def people(box: Box, disk: UnsyncedDisk | None = None) -> Participants:
    return Participants(
        box.database, box.root, node_id="box", clock=box.clock, random=os.urandom,
        boot_id="boot-1", append=box.outbox.append, disk=disk or UnsyncedDisk(),
    )  # fmt: skip


def audited(box: Box) -> list[tuple[str, dict[str, str]]]:
    path = box.root / AUDIT_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    assert check_audit(box.root, UnsyncedDisk()) == (len(lines), (), ())
    return [(each["step"], each["facts"]) for each in map(json.loads, lines)]


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(SessionError) as error:
        call()
    assert error.value.why
    assert error.value.remedy
    return error.value.code


def test_consent_is_kept_with_its_time_and_who_took_it_down(box: Box) -> None:
    those = people(box)
    assert those.consent("p1") is None
    those.grant("p1", by="nurse")
    assert those.consent("p1") == Consent(True, "nurse", UTC, "")
    box.clock.sleep(60)
    those.withdraw("p1", by="doctor", session_id="s-1")
    assert those.consent("p1") == Consent(False, "doctor", UTC + 60 * S, "s-1")
    those.grant("p1", by="nurse")
    now = those.consent("p1")
    assert now is not None
    assert now.is_granted
    assert [each.event_type for each in box.events()] == [
        EventType.CONSENT_GRANTED, EventType.CONSENT_WITHDRAWN, EventType.CONSENT_GRANTED,
    ]  # fmt: skip
    assert [step for step, _ in audited(box)] == [
        "consent_granted", "consent_withdrawn", "consent_granted",
    ]  # fmt: skip


def test_a_withdrawal_under_a_pseudonym_that_nobody_has_is_not_taken_for_done(box: Box) -> None:
    those = people(box)
    assert refused(lambda: those.withdraw("p9", by="nurse")) == "session.unknown_participant"
    assert refused(lambda: those.grant("Alice", by="nurse")) == "session.bad_participant"
    assert refused(lambda: those.grant("p1", by="")) == "session.bad_person"
    assert (box.events(), audited(box)) == ([], [])


def test_who_withdraws_stops_alone() -> None:
    told = withdrawal(WORN, "p1")
    assert (told.stop, told.go_on, told.is_end) == (("muse-1", "hat"), ("muse-2",), False)
    assert withdrawal({"hat": "p1"}, "p1").is_end
    nobody = withdrawal(WORN, "p9")
    assert (nobody.stop, nobody.is_end) == ((), False)


def test_a_hand_over_clears_who_was_there(box: Box) -> None:
    those = people(box)
    those.seat(WORN)
    those.seat(WORN)
    assert those.seats() == WORN
    assert refused(lambda: those.seat({"hat": "p3"})) == "session.not_handed_over"
    assert refused(lambda: those.hand_over(session(), by="nurse")) == "session.still_running"
    assert those.seats() == WORN
    those.hand_over(None, by="nurse")
    assert those.seats() == {}
    those.seat({"hat": "p3"})
    assert box.events()[-1].event_type is EventType.HANDED_OVER
    assert "p1" not in json.dumps(box.events()[-1].data)


def ended(box: Box) -> None:
    box.records()
    box.store.move(Cause.STOP_ASKED)
    box.store.finish({})


def test_the_wrong_participant_is_corrected_and_both_are_kept(box: Box) -> None:
    those = people(box)
    ended(box)
    said = those.correct("s-1", "hat", "p3", by="nurse", reason="swapped at the bedside")
    assert said == Worn("p1", "p3")
    again = those.correct("s-1", "hat", "p4", by="nurse", reason="swapped twice")
    assert again == Worn("p1", "p4")
    assert those.worn(session(), "hat") == Worn("p1", "p4")
    assert those.worn(session(), "muse-1") == Worn("p1", "p1")
    kept = box.store.session("s-1")
    assert kept is not None
    assert kept.devices == WORN  # as it was recorded
    assert [(facts["was"], facts["now"]) for _, facts in audited(box)] == [
        ("p1", "p3"), ("p3", "p4"),
    ]  # fmt: skip
    told = [e for e in box.events() if e.event_type is EventType.PARTICIPANT_CORRECTED]
    assert [(e.data["was"], e.data["now"], e.session_id) for e in told] == [
        ("p1", "p3", "s-1"), ("p3", "p4", "s-1"),
    ]  # fmt: skip


def test_a_correction_that_does_not_fit_is_named_and_changes_nothing(box: Box) -> None:
    those = people(box)
    box.records()
    assert refused(
        lambda: those.correct("s-1", "hat", "p3", by="nurse", reason="x")
    ) == "session.still_running"  # fmt: skip
    box.store.move(Cause.STOP_ASKED)
    box.store.finish({})
    n = len(box.events())
    for (session_id, device, who, by, reason), code in (
        (("s-9", "hat", "p3", "nurse", "x"), "unknown_session"),
        (("s-1", "helmet", "p3", "nurse", "x"), "unknown_device"),
        (("s-1", "hat", "p1", "nurse", "x"), "nothing_to_correct"),
        (("s-1", "hat", "P 3", "nurse", "x"), "bad_participant"),
        (("s-1", "hat", "p3", "", "x"), "bad_person"),
        (("s-1", "hat", "p3", "nurse", " "), "bad_reason"),
        (("s-1", "hat", "p3", "nurse", "x" * 501), "bad_reason"),
    ):
        correct = partial(those.correct, session_id, device, who, by=by, reason=reason)
        assert refused(correct) == f"session.{code}"
    assert len(box.events()) == n
    assert audited(box) == []


def test_no_correction_is_without_its_line_wherever_the_process_dies(box: Box) -> None:
    ended(box)
    at = 0
    while True:
        disk = FaultyDisk(at=at)
        with contextlib.suppress(Killed):
            people(box, disk).correct("s-1", "hat", f"q{at}", by="nurse", reason="test")
        rows = box.database.query('SELECT "now" FROM correction')
        lines = [facts["now"] for _, facts in audited(box)]
        assert {row[0] for row in rows} <= set(lines)
        if disk.count <= at:
            break
        at += 1
    assert at >= 2
    assert rows


def test_a_disk_that_takes_no_line_takes_no_correction(box: Box) -> None:
    ended(box)
    with pytest.raises(StorageError):
        people(box, FaultyDisk(at=0, fault=28)).correct(
            "s-1", "hat", "p3", by="nurse", reason="test"
        )
    assert people(box).worn(session(), "hat") == Worn("p1", "p1")
