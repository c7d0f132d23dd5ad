"""The aggregator publishes what lies in its folders, in the order that boxes can take, and keeps what they say."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.cloud.ingest.dispatch import (
    AGAIN_S,
    KEEP_S,
    LOOK_S,
    MOST_BYTES,
    MOST_HEARD,
    Dispatch,
)
from brainforge_edge.cloud.store.outbound import Outbound
from brainforge_edge.core import topics
from brainforge_edge.core.errors import BrainforgeError, SecurityError
from brainforge_edge.core.wire import JobState, JobStatus, Reported
from brainforge_edge.security.desired import new_desired
from brainforge_edge.security.order import OrderFile, new_order
from tests.unit.erasure_material import DAY_NS, NODE, NOW_NS, order
from tests.unit.orders_material import CLINICIAN, FLEET, STRANGER, desired, sent, signed
from tests.unit.recorder_faulty_disk import UnsyncedDisk

DISK = UnsyncedDisk()


class Stand:
    """An aggregator's root, and a broker that keeps what it is told."""

    def __init__(self, root: Path) -> None:
        self.outbound = Outbound(root, DISK)
        self.retained: dict[str, bytes] = {}
        self.is_connected = True
        self.utc_ns: int | None = NOW_NS + 1
        self.published = 0
        self.now = 0.0
        self.root = root
        self.dispatch = self.again()

    def again(self) -> Dispatch:
        """As after a start of the aggregator."""
        return Dispatch(self.root, self._post, disk=DISK, utc_ns=lambda: self.utc_ns)

    def _post(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        assert retain
        if self.is_connected:
            self.published += 1
            self.retained.pop(topic, None)
            if payload:
                self.retained[topic] = payload
        return self.is_connected

    def steps(self, seconds: float = LOOK_S, n: int = 3) -> dict[str, bytes]:
        for _ in range(n):
            self.now += seconds
            self.dispatch.step(self.now)
        return self.retained

    def says(self, file: OrderFile, state: JobState, node: str = NODE, **fields: Any) -> str:
        status = JobStatus(node, file.id, state, NOW_NS, **fields)
        payload = msgspec.json.encode(status)
        return self.dispatch.hear(node, topics.JOB_STATUS, file.id, payload)

    def reports(self, node: str = NODE, **fields: Any) -> str:
        usual: dict[str, Any] = {
            "version": 7, "id": "x", "applied_utc_ns": None, "left": 0, "error": None,
            "untaken": None,
        }  # fmt: skip
        payload = msgspec.json.encode(Reported(node, **(usual | fields)))
        return self.dispatch.hear(node, topics.REPORTED, "", payload)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def job(stand: Stand, **fields: object) -> OrderFile:
    file = signed(new_order(order(**fields)), FLEET, CLINICIAN)  # type: ignore[arg-type]
    stand.outbound.add_job(file)
    return file


def at(file: OrderFile, node: str = NODE) -> str:
    return topics.job(node, file.id)


def test_a_state_is_published_within_seconds_and_again_with_each_link(stand: Stand) -> None:
    assert stand.steps() == {}
    first = signed(new_desired(desired(nodes=(NODE, "bed-2"))), FLEET)
    stand.outbound.set_desired(first)
    assert stand.steps() == {topics.desired(n): sent(first) for n in (NODE, "bed-2")}
    second = signed(new_desired(desired(counter=8)), FLEET)
    stand.outbound.set_desired(second)
    assert stand.steps()[topics.desired(NODE)] == sent(second)
    stand.retained.clear()
    assert stand.steps() == {}
    stand.dispatch.restart()
    assert set(stand.steps()) == {topics.desired(NODE), topics.desired("bed-2")}


def test_what_was_not_published_because_the_link_was_down_is_published_later(stand: Stand) -> None:
    stand.is_connected = False
    file = signed(new_desired(desired()), FLEET)
    stand.outbound.set_desired(file)
    assert stand.steps() == {}
    stand.is_connected = True
    assert stand.steps() == {topics.desired(NODE): sent(file)}


def test_what_nobody_answers_is_said_again_and_what_is_answered_is_not(stand: Stand) -> None:
    stand.outbound.set_desired(signed(new_desired(desired()), FLEET))
    file = job(stand)
    stand.steps(n=10)
    assert stand.published == 2
    stand.steps(AGAIN_S, n=2)
    assert stand.published >= 4
    assert stand.reports() == stand.says(file, "done") == ""
    stand.steps(n=5)
    before = stand.published
    stand.steps(AGAIN_S, n=5)
    assert stand.published == before
    assert topics.desired(NODE) in stand.retained
    assert at(file) not in stand.retained


def test_jobs_of_a_node_follow_each_other_by_their_counters(stand: Stand) -> None:
    """A box that took a higher one takes no lower one: it must not see them out of their order."""
    third, first, second = (job(stand, counter=n) for n in (30, 10, 20))
    other = job(stand, counter=25, nodes=("bed-2",))
    assert set(stand.steps()) == {at(first), at(other, "bed-2")}
    stand.says(first, "waiting")  # for the time
    assert set(stand.steps()) == {at(first), at(other, "bed-2")}
    stand.says(first, "begun")  # its counter is taken
    assert set(stand.steps()) == {at(first), at(second), at(other, "bed-2")}
    stand.says(second, "refused")
    assert set(stand.steps()) == {at(first), at(third), at(other, "bed-2")}
    stand.says(first, "done")
    assert set(stand.steps()) == {at(third), at(other, "bed-2")}


def test_an_expired_job_is_not_published_and_holds_up_no_other(stand: Stand) -> None:
    job(stand, counter=1)
    later = job(stand, counter=2, expires_utc_ns=NOW_NS + 9 * DAY_NS)
    stand.utc_ns = NOW_NS + 2 * DAY_NS
    assert set(stand.steps()) == {at(later)}


def test_after_a_start_what_was_done_is_cleared_and_not_said_again(stand: Stand) -> None:
    file = job(stand)
    stand.steps()
    stand.says(file, "done", done="list")
    stand.steps()
    stand.retained[at(file)] = b"kept by the broker"
    stand.dispatch = stand.again()
    assert stand.steps() == {}
    said = stand.outbound.status(file.id, NODE)
    assert said is not None
    assert (said.state, said.done) == ("done", "list")


def test_done_stays_done_whatever_comes_later(stand: Stand) -> None:
    file = job(stand)
    stand.steps()
    stand.says(file, "done", done="list")
    stand.steps()
    stand.says(file, "refused")
    stand.steps()
    said = stand.outbound.status(file.id, NODE)
    assert said is not None
    assert said.state == "done"


def test_what_nobody_asked_for_is_ignored_with_a_reason(stand: Stand) -> None:
    file = job(stand)
    stand.outbound.set_desired(signed(new_desired(desired()), FLEET))
    stand.steps()
    status = msgspec.json.encode(JobStatus(NODE, file.id, "done", None))
    hear = stand.dispatch.hear
    assert stand.says(file, "done", node="bed-2") == "unasked_report"
    assert stand.reports(node="bed-2") == "unasked_report"
    assert hear(NODE, topics.JOB_STATUS, "0" * 16, status) == "unasked_report"
    assert hear("bed-2", topics.JOB_STATUS, file.id, status) == "malformed_report"
    assert hear(NODE, topics.JOB_STATUS, "../../x", status) == "unasked_report"
    for payload in (b"", b"\xff", b"[" * 50_000, b"{}", status + b" " * MOST_BYTES):
        assert hear(NODE, topics.JOB_STATUS, file.id, payload) in {
            "malformed_report",
            "oversize_report",
        }
        assert hear(NODE, topics.REPORTED, "", payload) in {"malformed_report", "oversize_report"}
    stand.steps(n=10)
    assert stand.outbound.status(file.id, NODE) is None
    assert stand.outbound.reported(NODE) is None


def test_a_flood_of_answers_is_one_small_file_a_step(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = tuple(f"bed-{i}" for i in range(MOST_HEARD + 20))
    file = job(stand, nodes=nodes)
    stand.steps()
    kept: list[str] = []
    monkeypatch.setattr(Outbound, "keep_status", lambda _, said, __: kept.append(said.node))
    reasons = [stand.says(file, "waiting", node=node) for node in nodes]
    assert reasons.count("too_many_reports") == 20
    for _ in range(100):
        stand.says(file, "begun", node=nodes[0])
    stand.steps(0.1, n=1)
    assert kept == [nodes[0]]


def test_what_cannot_be_read_holds_up_nothing_else(stand: Stand) -> None:
    good = job(stand)
    (stand.root / "jobs" / "bad.json").write_bytes(b"{")
    (stand.root / "jobs" / "big.json").write_bytes(b" " * 100_000)
    (stand.root / "jobs" / "order.json").write_bytes(sent(signed(new_desired(desired()), FLEET)))
    DISK.make_folder(stand.root / "desired")
    (stand.root / "desired" / "bed-3.json").write_bytes(b"[]")
    assert set(stand.steps()) == {at(good)}
    found = dict(stand.outbound.all_jobs())
    assert isinstance(found["bad"], BrainforgeError)
    assert found[good.id] is not None


def test_an_older_state_and_one_that_nobody_signed_are_not_set(stand: Stand) -> None:
    stand.outbound.set_desired(signed(new_desired(desired(counter=8)), FLEET))
    for file, code in (
        (signed(new_desired(desired(counter=7)), FLEET), "cloud.desired_older"),
        (new_desired(desired(counter=9)), "cloud.not_signed"),
        (signed(new_order(order()), FLEET, CLINICIAN), "security.order_unknown_kind"),
    ):
        with pytest.raises(BrainforgeError) as caught:
            stand.outbound.set_desired(file)
        assert caught.value.code == code
    with pytest.raises(BrainforgeError) as caught:
        stand.outbound.add_job(new_order(order()))
    assert caught.value.code == "cloud.not_signed"


@pytest.mark.parametrize("node", ["../../evil", "+", "a/b", "#", "x\0"])
def test_a_document_for_what_is_no_node_is_neither_kept_nor_published(
    stand: Stand, tmp_path: Path, node: str
) -> None:
    """Whoever signed it: whose signatures count is not known here."""
    before = sorted(tmp_path.rglob("*"))
    for document in (desired(nodes=(node,)), order(nodes=(node,))):
        file = signed(OrderFile(msgspec.json.encode(document).decode()), STRANGER)
        take = stand.outbound.set_desired if document.kind == "desired" else stand.outbound.add_job
        with pytest.raises(SecurityError) as caught:
            take(file)
        assert caught.value.code == "security.order_node"
    assert sorted(tmp_path.rglob("*")) == before
    assert stand.steps() == {}


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_job_that_was_refused_is_offered_again_when_it_is_added_again(
    stand: Stand, is_restarted: bool
) -> None:
    """As the box's refusal advises: its configuration knows the signers meanwhile."""
    file = job(stand)
    assert at(file) in stand.steps()
    stand.says(file, "refused")
    assert at(file) not in stand.steps(n=5)
    if is_restarted:
        stand.dispatch = stand.again()
    assert at(file) not in stand.steps(n=5)
    job(stand)
    assert stand.steps(n=5)[at(file)] == sent(file)
    stand.says(file, "done")
    stand.steps(n=5)
    job(stand)
    assert at(file) not in stand.steps(n=5)


def test_what_a_box_counts_down_is_one_file_in_seconds_and_the_last_of_it_is_kept(
    stand: Stand,
) -> None:
    stand.outbound.set_desired(signed(new_desired(desired()), FLEET))
    file = job(stand)
    stand.steps()
    kept: list[int | None] = []
    for left in range(40, -1, -1):
        assert stand.reports(left=left) == ""
        stand.steps(0.1, n=1)
        told = stand.outbound.reported(NODE)
        assert told is not None
        if kept[-1:] != [told.left]:
            kept.append(told.left)
    assert kept == [40]
    stand.says(file, "done")
    stand.steps(0.1, n=1)  # an answer to a job does not wait for it
    assert stand.outbound.status(file.id, NODE) is not None
    stand.steps(KEEP_S, n=1)
    told = stand.outbound.reported(NODE)
    assert told is not None
    assert told.left == 0
