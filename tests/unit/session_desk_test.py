"""What a person asks for: a start that does not fit changes nothing; who withdraws stops alone."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core.errors import BrainforgeError, SessionError, StorageError
from brainforge_edge.core.events import EventType
from brainforge_edge.sessions.desk import Desk, Wish
from brainforge_edge.sessions.machine import Cause, State
from brainforge_edge.sessions.metadata import Participants
from brainforge_edge.sessions.preflight import Facts
from tests.unit.recorder_faulty_disk import FaultyDisk, UnsyncedDisk
from tests.unit.session_material import KNOWN, WORN, HandClock
from tests.unit.session_store_material import Box, state_of

BOX = Facts(
    devices={}, links=dict.fromkeys(KNOWN, "streaming"), free_bytes=10**12, disk_refuses=False
)


class Stand:
    """A desk whose participants agreed, and whose monitor is alive."""

    def __init__(self, root: Path) -> None:
        self.box = Box(root, HandClock())
        self.stopped: list[tuple[str, ...]] = []
        self.people = self.participants(UnsyncedDisk())
        self.desk = self.desk_with(self.people)
        for who in ("p1", "p2"):
            self.people.grant(who, by="nurse")
        self.box.store.renew()

    def participants(self, disk: UnsyncedDisk) -> Participants:
        return Participants(
            self.box.database, self.box.root, node_id="box", clock=self.box.clock,
            random=os.urandom, boot_id="boot-1", append=self.box.outbox.append, disk=disk,
        )  # fmt: skip

    def desk_with(self, people: Participants) -> Desk:
        return Desk(
            self.box.store, people, clock=self.box.clock, random=os.urandom,
            stop_devices=self.stopped.append,
        )  # fmt: skip

    def begin(self, facts: Facts = BOX, **changes: Any) -> None:
        usual: dict[str, Any] = {"protocol": "meditation", "devices": WORN, "by": "nurse"}
        self.desk.begin(Wish(**(usual | changes)), facts)

    def rows(self) -> list[Any]:
        tables = ("bedside", "session", "session_step", "consent", "seat", "correction", "outbox")
        return [self.box.database.query(f"SELECT * FROM {name}") for name in tables]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.box.close()


def test_a_session_that_fits_begins(stand: Stand) -> None:
    stand.begin(duration_s=540)
    session = stand.box.store.bedside.session
    assert session is not None
    assert session.recording == f"ses-{session.session_id}"
    assert stand.people.seats() == WORN
    assert state_of(stand.box) is State.CONNECTING


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"duration_s": 0}, "session.bad_duration"),
        ({"duration_s": -3}, "session.bad_duration"),
        ({"duration_s": 10**9}, "session.bad_duration"),
        ({"duration_s": math.nan}, "session.bad_duration"),
        ({"duration_s": [1]}, "session.bad_duration"),
        ({"devices": {"toaster": "p1"}}, "session.unknown_device"),
        ({"devices": {}}, "session.no_devices"),
        ({"devices": {"hat": "p3"}}, "session.no_consent"),
        ({"devices": {"hat": "Mr X"}}, "session.bad_participant"),
        ({"protocol": "sleep"}, "session.unknown_protocol"),
        ({"mode": "both"}, "session.bad_mode"),
        ({"by": ""}, "session.bad_person"),
        ({"facts": msgspec.structs.replace(BOX, disk_refuses=True)}, "session.not_fit"),
        ({"facts": msgspec.structs.replace(BOX, free_bytes=None)}, "session.not_fit"),
    ],
)
def test_a_start_that_does_not_fit_is_named_and_changes_nothing(
    stand: Stand, changes: dict[str, Any], code: str
) -> None:
    before = stand.rows()
    with pytest.raises(BrainforgeError) as refused:
        stand.begin(**changes)
    assert refused.value.code == code
    assert refused.value.why
    assert refused.value.remedy
    assert stand.rows() == before
    assert state_of(stand.box) is State.IDLE


def test_no_session_starts_twice_and_the_first_one_goes_on(stand: Stand) -> None:
    stand.begin()
    before = stand.rows()
    for devices in (WORN, {"helmet": "p1"}, {"hat": "p3"}):
        with pytest.raises(SessionError) as refused:
            stand.begin(devices=devices)
        assert refused.value.code == "session.already_running"
    assert stand.rows() == before


def test_a_start_waits_for_monitor_release_and_hand_over(stand: Stand) -> None:
    stand.people.seat({"hat": "p2"})
    stand.box.clock.sleep(10)
    for code, mend in (
        ("session.not_fit", stand.box.store.renew),
        ("session.not_handed_over", lambda: stand.desk.hand_over(by="nurse")),
    ):
        with pytest.raises(SessionError) as refused:
            stand.begin()
        assert refused.value.code == code
        mend()
    stand.box.store.emergency_stop("nurse")
    with pytest.raises(SessionError) as refused:
        stand.begin()
    assert refused.value.code == "session.emergency_stop"
    stand.box.store.release_emergency_stop("doctor")
    stand.begin()


def test_who_withdraws_stops_alone_and_the_last_one_ends_the_session(stand: Stand) -> None:
    stand.begin()
    stand.box.store.move(Cause.DEVICES_READY)
    stand.box.store.move(Cause.FLUSHED)
    assert stand.desk.withdraw("p1", by="nurse").go_on == ("muse-2",)
    assert stand.stopped == [("muse-1", "hat")]
    assert state_of(stand.box) is State.RECORDING
    said = stand.people.consent("p1")
    session = stand.box.store.bedside.session
    assert said is not None
    assert session is not None
    assert (said.is_granted, said.session_id) == (False, session.session_id)
    assert stand.desk.withdraw("p2", by="nurse").is_end
    assert state_of(stand.box) is State.SAVING
    assert stand.box.store.bedside.is_open
    kinds = [each.event_type for each in stand.box.events()]
    assert kinds.count(EventType.CONSENT_WITHDRAWN) == 2


def test_a_withdrawal_that_is_refused_has_stopped_nothing(stand: Stand) -> None:
    stand.begin()
    before = stand.rows()
    for who, by, code in (("p1", " ", "bad_person"), ("p9", "nurse", "unknown_participant")):
        with pytest.raises(SessionError) as refused:
            stand.desk.withdraw(who, by=by)
        assert refused.value.code == f"session.{code}"
    assert stand.stopped == []
    assert stand.rows() == before


def test_devices_stop_though_the_disk_takes_no_word_of_it(stand: Stand) -> None:
    stand.begin()
    desk = stand.desk_with(stand.participants(FaultyDisk(at=0, fault=5)))
    with pytest.raises(StorageError):
        desk.withdraw("p1", by="nurse")
    assert stand.stopped == [("muse-1", "hat")]
    session = stand.box.store.bedside.session
    assert session is not None
    assert session.devices == {"muse-2": "p2"}
    # Said again it is noted, though no device of his is left.
    stand.desk.withdraw("p1", by="nurse")
    said = stand.people.consent("p1")
    assert said is not None
    assert not said.is_granted


def test_after_a_hand_over_nothing_tells_of_who_was_there(stand: Stand) -> None:
    stand.begin()
    with pytest.raises(SessionError) as refused:
        stand.desk.hand_over(by="nurse")
    assert refused.value.code == "session.still_running"
    stand.box.store.move(Cause.STOP_ASKED)
    stand.box.store.finish({})
    stand.desk.hand_over(by="nurse")
    assert stand.people.seats() == {}
    shown = json.dumps(msgspec.to_builtins(stand.box.store.bedside))
    assert "p1" not in shown
    assert "p2" not in shown
