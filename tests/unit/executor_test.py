"""The agent's thread for what comes signed: bounded, beside everything else, and alive whatever comes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core import ipc, wire
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import EdgeConfig, NodeConfig, OrdersConfig, OrderSigner
from brainforge_edge.fleet import executor as executor_module
from brainforge_edge.fleet.desired import DesiredStates
from brainforge_edge.fleet.executor import MOST_WAITING, Executor
from brainforge_edge.recorder.desiredfile import DESIRED_FILE
from brainforge_edge.security.desired import SealState, new_desired
from brainforge_edge.security.order import new_order
from tests.unit.erasure_material import NODE, Make, Session, found_by, order
from tests.unit.orders_material import CLINICIAN, FLEET, desired, sent, signed
from tests.unit.sealed_material import DISK, pair

MOST_S = 40.0
DAY_NS = 86_400 * 10**9


def now_ns() -> int:
    utc_ns = SystemClock().utc_ns()
    assert utc_ns is not None
    return utc_ns


class Stand:
    """An agent's executor at a box with a session of four; `told` is what the supervisor hears."""

    def __init__(self, made: Session) -> None:
        self.told: list[ipc.Message] = []
        self.applied = 0
        signers = []
        for role, signer in (("fleet", FLEET), ("clinician", CLINICIAN)):
            path = made.root.parent / f"{role}.pem"
            path.write_bytes(signer.public.pem)
            signers.append(OrderSigner(role=role, key=str(path)))  # type: ignore[arg-type]
        # The box's own key lies where a box has it.
        (made.root / "keys").symlink_to(made.private / "box")
        self.executor = Executor(
            EdgeConfig(
                node=NodeConfig(id=NODE, root=str(made.root)),
                orders=OrdersConfig(signers=tuple(signers)),
            ),
            log_id=made.log_id, clock=SystemClock(), disk=DISK, send=self.told.append,
            on_applied=self._applied,
        )  # fmt: skip

    def _applied(self) -> None:
        self.applied += 1

    def until(self, is_so: Callable[[], object]) -> None:
        end = time.monotonic() + MOST_S
        while not is_so():
            assert time.monotonic() < end, self.told
            time.sleep(0.01)

    def hear(self, job: str, payload: bytes) -> None:
        self.executor.hear(ipc.Directive(job=job, payload=payload))

    def reports(self, job: str = "") -> list[ipc.Report]:
        return [each for each in self.told if isinstance(each, ipc.Report) and each.job == job]

    def reported(self) -> wire.Reported:
        return msgspec.json.decode(self.reports()[-1].payload, type=wire.Reported)

    def status(self, job: str) -> dict[str, Any]:
        said: dict[str, Any] = msgspec.json.decode(self.reports(job)[-1].payload)
        return said


@pytest.fixture
def made(make: Make, tmp_path: Path) -> Session:
    return make(tmp_path / "box")


def fresh(**fields: object) -> bytes:
    times = {"issued_utc_ns": now_ns(), "expires_utc_ns": now_ns() + DAY_NS}
    return sent(signed(new_desired(desired(**(times | fields))), FLEET))


def test_a_state_and_a_job_are_carried_out_and_told_of(made: Session, tmp_path: Path) -> None:
    stand = Stand(made)
    new = pair(tmp_path / "new", "aggregator")
    file = signed(
        new_order(order(issued_utc_ns=now_ns(), expires_utc_ns=now_ns() + DAY_NS)),
        FLEET, CLINICIAN,
    )  # fmt: skip
    stand.executor.start()
    try:
        stand.hear("", fresh(seal=SealState(aggregator=new.pem.decode())))
        stand.hear(file.id, sent(file))
        stand.until(lambda: stand.reports(file.id))
        stand.until(lambda: stand.reports() and stand.reported().left == 0)
    finally:
        stand.executor.stop()
    assert stand.status(file.id)["state"] == "done"
    assert found_by(made, "p2") == []
    assert stand.reported().version == 7
    assert stand.applied == 1
    kinds = [type(each) for each in stand.told]
    # The uplink begins anew when it hears of it: what it is to publish comes first.
    assert kinds.index(ipc.Report) < kinds.index(ipc.Applied)
    assert stand.executor.stats()["rewrapped"] == 4
    assert stand.executor.stats()["error"] is None


def test_a_flood_is_dropped_and_what_comes_after_it_is_carried_out(made: Session) -> None:
    stand = Stand(made)
    for i in range(1000):
        stand.hear(f"{i}", b"[" * 60_000)
    stats = stand.executor.stats()
    assert (stats["heard"], stats["dropped"]) == (MOST_WAITING, 1000 - MOST_WAITING)
    stand.executor.start()
    try:
        stand.until(lambda: len(stand.told) == MOST_WAITING)
        assert {each.is_final for each in stand.told if isinstance(each, ipc.Report)} == {True}
        stand.hear("", fresh())
        stand.until(lambda: stand.reports() and stand.reported().version == 7)
    finally:
        stand.executor.stop()


def test_both_files_damaged_the_box_says_so_and_takes_the_state_again(made: Session) -> None:
    payload = fresh()
    for _ in range(2):
        stand = Stand(made) if not (made.root / "keys").exists() else again(made)
        stand.executor.start()
        try:
            stand.hear("", payload)
            stand.until(lambda: stand.reports() and stand.reported().version == 7)  # noqa: B023
        finally:
            stand.executor.stop()
        for path in made.root.glob("desired*.json"):
            path.write_bytes(b"\0" * 100)
    assert (made.root / f"{DESIRED_FILE}.damaged-1").exists()


def again(made: Session) -> Stand:
    (made.root / "keys").unlink()
    return Stand(made)


def test_a_thread_that_failed_is_told_of_with_a_remedy_and_goes_on(
    made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    stand = Stand(made)
    with monkeypatch.context() as broken:
        broken.setattr(executor_module.Jobs, "take", fails)  # type: ignore[attr-defined]
        stand.executor.start()
        stand.hear("a1", b"{}")
        stand.until(lambda: any(isinstance(each, ipc.Fault) for each in stand.told))
    error = stand.executor.stats()["error"]
    assert error["code"] == "error.orders"
    assert error["remedy"]
    payload = fresh()
    try:
        stand.hear("", payload)
        stand.until(lambda: stand.reports() and stand.reported().version == 7)
    finally:
        stand.executor.stop()


def test_a_thread_that_failed_before_its_first_order_begins_again(
    made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(2))
    begin = executor_module.DesiredStates.begin  # type: ignore[attr-defined]

    def fails_at_first(states: DesiredStates) -> None:
        if next(times, None) is not None:
            raise ZeroDivisionError
        begin(states)

    monkeypatch.setattr(executor_module.DesiredStates, "begin", fails_at_first)  # type: ignore[attr-defined]
    stand = Stand(made)
    stand.executor.start()
    try:
        stand.hear("", fresh())
        stand.until(lambda: stand.reports() and stand.reported().version == 7)
        assert len([each for each in stand.told if isinstance(each, ipc.Fault)]) == 2
    finally:
        stand.executor.stop()


def test_what_is_refused_lets_no_uplink_begin_anew(make: Make, tmp_path: Path) -> None:
    """A disk that neither gives the state that stands nor takes it again would have it begin for ever."""
    stand = Stand(make(tmp_path / "box"))
    utc_ns = now_ns()
    state = desired(issued_utc_ns=utc_ns, expires_utc_ns=utc_ns + DAY_NS)
    stand.executor.start()
    try:
        stand.hear("", sent(signed(new_desired(state), FLEET)))
        stand.until(lambda: any(isinstance(each, ipc.Applied) for each in stand.told))
        stand.told.clear()
        stand.hear("", b"garbage")
        stand.hear("b" * 16, b"garbage")  # what was told of the one before is told by then
        stand.until(lambda: stand.reports("b" * 16))
        assert stand.reported().untaken is not None
        assert not any(isinstance(each, ipc.Applied) for each in stand.told)
        stand.hear("", sent(signed(new_desired(state), FLEET)))
        stand.until(lambda: any(isinstance(each, ipc.Applied) for each in stand.told))
    finally:
        stand.executor.stop()
