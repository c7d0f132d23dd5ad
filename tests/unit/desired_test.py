"""Desired states at a box: the newest that the fleet signed for it, now; everything else is refused and told of."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.fleet.orders import ORDERS_FILE
from brainforge_edge.recorder.desiredfile import (
    COPY_FILE,
    DESIRED_FILE,
    now_receipt_signer,
    now_recipients,
    read_standing,
)
from brainforge_edge.security.desired import SealState, new_desired
from brainforge_edge.security.order import EARLY_NS, MOST_BYTES, OrderFile, Signature
from brainforge_edge.security.wrap import Recipient
from tests.unit.erasure_material import DAY_NS, NOW_NS, order
from tests.unit.orders_material import (
    CLINICIAN,
    FLEET,
    STRANGER,
    FixedClock,
    body_of,
    desired,
    good,
    raw,
    sent,
    signed,
    signer,
    states_at,
)
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_powercut_disk import PowerCutDisk
from tests.unit.sealed_material import DISK, pair


def test_a_state_that_the_fleet_signed_stands_and_is_told_of(tmp_path: Path) -> None:
    states = states_at(tmp_path)
    assert states.reported().version is None
    assert states.take(good()) == (True, True)
    said = states.reported()
    assert (said.version, said.applied_utc_ns, said.untaken) == (7, NOW_NS + 1, None)
    assert states.take(good()) == (False, True)
    assert states_at(tmp_path).reported() == said


def altered(payload: bytes) -> bytes:
    return payload.replace(b'\\"counter\\":7', b'\\"counter\\":8')


def doubled() -> bytes:
    file = signed(new_desired(desired()), FLEET)
    return sent(msgspec.structs.replace(file, signatures=file.signatures * 2))


def garbled() -> bytes:
    file = signed(new_desired(desired()), FLEET)
    return sent(msgspec.structs.replace(file, signatures=(Signature(FLEET.id, bytes(64)),)))


def nested(depth: int) -> bytes:
    return b'{"body":"{}","more":' + b"[" * depth + b"]" * depth + b"}"


def of_body(**fields: object) -> bytes:
    return sent(raw(body_of(desired()) | fields, FLEET))


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "unsigned": ("order_signer_missing", lambda: sent(new_desired(desired()))),
    "signed by the clinician alone": (
        "order_signer_missing", lambda: sent(signed(new_desired(desired()), CLINICIAN)),
    ),
    "the same signer twice": ("order_signed_twice", doubled),
    "signed by a stranger": (
        "order_unknown_signer", lambda: sent(signed(new_desired(desired()), STRANGER)),
    ),
    "a stranger beside the fleet": (
        "order_unknown_signer", lambda: sent(signed(new_desired(desired()), FLEET, STRANGER)),
    ),
    "no signature at all": ("order_forged", garbled),
    "a changed body": ("order_forged", lambda: altered(good())),
    "for another node": ("order_for_another", lambda: good(nodes=("bed-2",))),
    "for another log": ("order_for_another", lambda: good(log_ids=("11" * 16,))),
    "expired": ("order_expired", lambda: good(expires_utc_ns=NOW_NS + 1)),
    "an order to erase": (
        "order_unknown_kind", lambda: sent(raw(body_of(order()), FLEET, CLINICIAN)),
    ),
    "an unknown kind": ("order_unknown_kind", lambda: of_body(kind="reboot")),
    "to stimulate, signed by one": ("order_signer_missing", lambda: of_body(kind="stimulate")),
    "a field of a later version": ("order_unreadable", lambda: of_body(firmware="2.0")),
    "another format": ("order_unreadable", lambda: of_body(format=2)),
    "a key that is none": ("order_key", lambda: of_body(signer="no PEM")),
    "sealed for what is no key": ("order_key", lambda: of_body(seal={"aggregator": "no PEM"})),
    "more nodes than a message names": (
        "order_too_many_nodes", lambda: of_body(nodes=[f"bed-{i}" for i in range(257)]),
    ),
    "a megabyte": ("order_unreadable", lambda: b" " * 1024 * 1024),
    "one byte too many": ("order_unreadable", lambda: good().ljust(MOST_BYTES + 1)),
    "nested deeply": ("order_unreadable", lambda: nested(30_000)),
    "nested deeply in its body": (
        "order_unreadable",
        lambda: sent(signed(OrderFile('{"kind":' + "[" * 20_000), FLEET)),
    ),
    "not UTF-8": ("order_unreadable", lambda: b'{"body":"\xff\xfe"}'),
    "no JSON": ("order_unreadable", lambda: b"\x00\x01"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_any_other_state_is_refused_with_its_reason_and_changes_nothing(
    tmp_path: Path, case: str
) -> None:
    code, make = REFUSED[case]
    states = states_at(tmp_path)
    assert states.take(make()) == (False, True)
    said = states.reported()
    assert said.version is None
    assert said.untaken is not None
    assert said.untaken.error["code"] == f"security.{code}"
    assert said.untaken.error["why"]
    assert said.untaken.error["remedy"]
    assert not (tmp_path / ORDERS_FILE).exists()
    assert states.take(good()) == (True, True)
    assert states.reported().untaken is None


@pytest.mark.parametrize(
    ("code", "utc_ns"),
    [("order_time_unknown", None), ("order_not_yet", NOW_NS - EARLY_NS - 1)],
)
def test_a_box_without_the_time_waits_and_takes_it_when_the_clock_is_set(
    tmp_path: Path, code: str, utc_ns: int | None
) -> None:
    clock = FixedClock(utc_ns)
    states = states_at(tmp_path, clock=clock)
    assert states.take(good()) == (False, False)
    untaken = states.reported().untaken
    assert untaken is not None
    assert untaken.error["code"] == f"security.{code}"
    clock.utc = NOW_NS + 1
    assert states.take(good()) == (True, True)


def replayed(states: Any, payload: bytes) -> str:
    assert states.take(payload) == (False, True)
    untaken = states.reported().untaken
    assert untaken is not None
    return str(untaken.error["code"])


def test_an_older_state_and_one_of_the_same_counter_are_refused_also_after_a_restart(
    tmp_path: Path,
) -> None:
    first, second, third = (good(counter=n) for n in (7, 8, 9))
    twin = good(counter=8, signer=signer().public.pem.decode())
    states = states_at(tmp_path)
    states.take(first)
    assert states.take(second) == (True, True)
    for box in (states, states_at(tmp_path)):
        assert replayed(box, first) == "security.order_replayed"
        assert replayed(box, twin) == "security.order_replayed"
        assert box.reported().version == 8
    assert states.take(third) == (True, True)


@pytest.mark.parametrize("register", [None, b'{"counter": 3}'])
def test_no_older_state_passes_where_the_counters_were_lost_or_written_by_hand(
    tmp_path: Path, register: bytes | None
) -> None:
    old, new = good(counter=7), good(counter=8)
    states = states_at(tmp_path)
    states.take(new)
    (tmp_path / ORDERS_FILE).unlink()
    if register is not None:
        (tmp_path / ORDERS_FILE).write_bytes(register)
    assert replayed(states, old) == "security.order_replayed"
    assert states.take(new) == (False, True)
    assert states.take(good(counter=9)) == (True, True)


@pytest.mark.parametrize("lost", [(DESIRED_FILE,), (COPY_FILE,), (DESIRED_FILE, COPY_FILE)])
def test_a_damaged_state_is_set_aside_read_from_its_copy_or_taken_again(
    tmp_path: Path, lost: tuple[str, ...]
) -> None:
    """Also when it has expired meanwhile, and never an older one in its place."""
    old, new = good(counter=7), good(counter=8)
    states = states_at(tmp_path)
    states.take(old)
    states.take(new)
    for name in lost:
        path = tmp_path / name
        path.write_bytes(path.read_bytes().replace(b"bed-1", b"bed-3"))
    clock = FixedClock(NOW_NS + 2 * DAY_NS)
    states = states_at(tmp_path, clock=clock)
    assert states.reported().version == (None if len(lost) == 2 else 8)
    for name in lost:
        assert (tmp_path / f"{name}.damaged-1").exists()
    assert replayed(states, old) in {"security.order_replayed", "security.order_expired"}
    states.take(new)
    assert states.reported().version == 8
    assert (tmp_path / DESIRED_FILE).read_bytes()
    assert (tmp_path / COPY_FILE).read_bytes()


def test_killed_at_each_call_a_state_stands_or_is_taken_when_it_comes_again(
    tmp_path: Path,
) -> None:
    """The counter is on the disk before the state; no older one passes in between."""
    old, new = good(counter=7), good(counter=8)
    at = 0
    while True:
        root = tmp_path / str(at)
        root.mkdir()
        states_at(root, disk=UnsyncedDisk()).take(old)
        disk = FaultyDisk(at=at)
        finished = False
        with contextlib.suppress(Killed):
            finished = states_at(root, disk=disk).take(new) == (True, True)
        states = states_at(root, disk=UnsyncedDisk())
        assert states.reported().version in {7, 8}
        states.take(new)
        assert states.reported().version == 8
        assert replayed(states, old) == "security.order_replayed"
        if finished:
            break
        at += 1
    assert at > 6


def test_after_a_power_cut_at_any_call_no_older_state_passes_for_a_new_one(tmp_path: Path) -> None:
    """What was told as applied stands; what stands has its counter on the disk."""
    old, new = good(counter=7), good(counter=8)
    at = 0
    while True:
        root = tmp_path / str(at)
        root.mkdir()
        told = 0
        disk = PowerCutDisk(root, at=at, seed=at)
        with contextlib.suppress(Killed):
            states = states_at(root, disk=disk)
            for version, payload in ((7, old), (8, new)):
                assert states.take(payload) == (True, True)
                told = version
        left = tmp_path / f"{at}-left"
        disk.platter(left)
        states = states_at(left, disk=UnsyncedDisk())
        standing = states.reported().version or 0
        assert standing >= told
        if standing == 8:
            assert replayed(states, old) == "security.order_replayed"
        states.take(new)
        assert states.reported().version == 8
        assert replayed(states, old) == "security.order_replayed"
        if told == 8:
            break
        at += 1
    assert at > 10


def test_for_whom_is_sealed_and_whose_receipts_count_follows_the_state(tmp_path: Path) -> None:
    """Roles that it leaves out are as configured; files that are damaged count as absent."""
    box, old, new = (pair(tmp_path / name, name) for name in ("box", "old", "new"))
    configured = (box, Recipient("aggregator", old.pem))
    assert now_recipients(configured, tmp_path, DISK) == configured
    assert now_receipt_signer("", tmp_path, DISK) is None
    receipts = signer().public
    state = {"seal": SealState(aggregator=new.pem.decode()), "signer": receipts.pem.decode()}
    states_at(tmp_path).take(good(**state))
    named = now_recipients(configured, tmp_path, DISK)
    assert [(each.role, each.id) for each in named] == [("box", box.id), ("aggregator", new.id)]
    found = now_receipt_signer("", tmp_path, DISK)
    assert found is not None
    assert found.id == receipts.id
    for name in (DESIRED_FILE, COPY_FILE):
        (tmp_path / name).write_bytes(b"{")
    assert read_standing(tmp_path, DISK) is None
    assert now_recipients(configured, tmp_path, DISK) == configured


def test_what_may_not_be_applied_is_not_made_either() -> None:
    for fields in ({"signer": "x"}, {"log_ids": ("zz",)}, {"nodes": ("n",) * 257}):
        with pytest.raises(SecurityError, match="this order is not a good one"):
            new_desired(desired(**fields))


def test_what_a_stranger_calls_himself_fills_no_log(tmp_path: Path) -> None:
    """Whoever can publish there can publish sixteen a second of 64 KiB."""
    states = states_at(tmp_path)
    file = signed(new_desired(desired()), STRANGER)
    long = msgspec.structs.replace(file.signatures[0], signer="x" * 60_000)
    for signatures in ((long,), (long, long)):
        states.take(sent(msgspec.structs.replace(file, signatures=signatures)))
        untaken = states.reported().untaken
        assert untaken is not None
        assert len(str(untaken.error)) < 1000
