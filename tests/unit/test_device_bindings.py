"""The binding rules as they are spread over worker, supervisor and agent, for any order of what happens."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.acquisition.binding import Binding
from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import DeviceConfig
from brainforge_edge.core.errors import BrainforgeError, ConfigError, DeviceError, SessionError
from brainforge_edge.core.stream import DeviceInfo
from brainforge_edge.daemon.bindings import Bindings
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.commands import Commands
from brainforge_edge.fleet.devices import Devices
from brainforge_edge.fleet.registry import read_devices

NAMES = ("left", "right")
DEVICES = tuple(DeviceConfig(name=name, kind="accel_hat") for name in NAMES)


class Worker:
    """An acquire worker and the supervisor's end of it."""

    def __init__(self, box: "Box", device: DeviceConfig) -> None:
        self.name = f"acquire:{device.name}"
        self.pid, self.ready = 1, True
        self.stats: dict[str, Any] = {}
        self.parted = 0
        self._box = box
        self.binding = Binding(device, box.bindings.bound, send=self._say)

    def _say(self, message: ipc.Message) -> None:
        if isinstance(message, ipc.Answered):
            asyncio.run(self._box.bindings.heard(cast("Child", self), message))

    async def send(self, message: ipc.Message) -> bool:
        if isinstance(message, ipc.Bound) and not self.binding.heard(message):
            self.parted += 1
        return True

    def answers(self, serial_number: str) -> str:
        """A device connects: "" if it is trusted, else the code of the refusal."""
        self.stats = {}
        try:
            self.binding.trust(DeviceInfo("hat", serial_number))
        except DeviceError as error:
            self.stats = {"error": error.as_dict()}
            return error.code
        self.stats = {"identity": self.binding.identity, "link": "streaming"}
        return ""


class Agent:
    """The agent's process, which may be down."""

    name = "agent"

    def __init__(self, box: "Box", root: Path) -> None:
        self.pid: int | None = 2
        self._box = box
        self._root = root
        self._heard: list[ipc.Message] = []
        self.devices = self._new()

    def _new(self) -> Devices:
        return Devices(self._root, clock=SystemClock(), send=self._heard.append)

    @property
    def ready(self) -> bool:
        return self.pid is not None

    def die(self) -> None:
        self.pid = None
        self.devices.close()

    def start(self) -> None:
        self.pid = 3
        self.devices = self._new()
        self.devices.report()
        asyncio.run(self._flush())
        asyncio.run(self._box.bindings.greet(cast("Child", self)))

    async def send(self, message: ipc.Message) -> bool:
        if not self.ready:
            return False
        if isinstance(message, ipc.Answered):
            self.devices.answered(message)
        elif isinstance(message, ipc.Command):
            self.devices.command(message)
        await self._flush()
        return True

    async def _flush(self) -> None:
        while self._heard:
            message = self._heard.pop(0)
            assert not isinstance(message, ipc.Fault)
            if isinstance(message, ipc.Bound):
                await self._box.bindings.heard(cast("Child", self), message)
            elif isinstance(message, ipc.CommandDone):
                self._box.commands.heard(cast("Child", self), message)


class Box:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[dict[str, Any]] = []
        self.agent = Agent(self, root)
        self.start()

    def start(self, *, is_agent_late: bool = False) -> None:
        """The supervisor and its workers, anew."""
        self.workers: dict[str, Worker] = {}
        self.commands = Commands(workers=self._acquirers, recording=lambda: "")
        self.bindings = Bindings(
            DEVICES,
            agent=cast("Child", self.agent),
            acquirers=self._acquirers,
            commands=self.commands,
            told=self._told,
        )
        self.agent.die()
        if not is_agent_late:
            self.agent.start()
        self.workers = {device.name: Worker(self, device) for device in DEVICES}

    def _acquirers(self) -> list[Child]:
        return cast("list[Child]", list(self.workers.values()))

    async def _told(self, child: Child, event: ipc.Event) -> None:
        del child
        self.events.append(event.data)

    def do(self, verb: str, **request: Any) -> dict[str, Any]:
        reply: dict[str, Any] = asyncio.run(getattr(self.bindings, f"verb_{verb}")(request))
        return reply

    def stored(self) -> dict[str, str]:
        rows = read_devices(self.root)
        return {row["name"]: row["identity"] for row in rows if row["pairing"] == "bound"}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("answers"), st.sampled_from(NAMES), st.sampled_from(["A", "B", "C", ""])),
        st.tuples(st.just("bind"), st.sampled_from(NAMES), st.just("")),
        st.tuples(st.just("forget"), st.sampled_from(NAMES), st.just("")),
        st.tuples(st.sampled_from(["agent dies", "agent starts", "daemon starts"]),
                  st.just(""), st.just("")),
    ),
    max_size=20,
)  # fmt: skip


def identity(name: str, serial_number: str) -> str:
    return f"accel_hat:{serial_number or '@' + name}"


def expected(bound: dict[str, str], name: str, answered: str) -> str:
    """The rule in other words: the code of the refusal."""
    mine = bound.get(name)
    if "@" not in answered and answered in {v for k, v in bound.items() if k != name}:
        return "device.identity_taken"
    is_free = mine is None or "@" in mine or mine == answered
    return "" if is_free else "device.new_identity"


@settings(max_examples=60, deadline=None)
@given(steps)
def test_no_order_of_events_lets_a_stranger_in_or_loses_a_binding(
    order: list[tuple[str, str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder))
        bound: dict[str, str] = {}
        last: dict[str, str] = {}  # name → who answered last
        try:
            for what, name, serial_number in order:
                if what == "answers":
                    last[name] = identity(name, serial_number)
                    code = expected(bound, name, last[name])
                    assert box.workers[name].answers(serial_number) == code
                    if not code:
                        bound[name] = last[name]
                elif what == "agent dies" and box.agent.ready:
                    box.agent.die()
                elif what == "agent starts" and not box.agent.ready:
                    box.agent.start()
                elif what == "daemon starts" and box.agent.ready:
                    box.start()
                    last.clear()
                elif what == "bind" and box.agent.ready:
                    who = last.get(name, "")
                    taken = who in {v for k, v in bound.items() if k != name}
                    if not who or (taken and "@" not in who):
                        with pytest.raises((DeviceError, SessionError)):
                            box.do("bind", device=name)
                    else:
                        assert box.do("bind", device=name)["identity"] == who
                        bound[name] = who
                elif what == "forget" and box.agent.ready:
                    if name in bound:
                        assert box.do("forget", device=name)["freed"] == [name]
                        del bound[name]
                    else:
                        with pytest.raises(ConfigError):
                            box.do("forget", device=name)
                assert box.bindings.bound == bound
                proven = [who for who in bound.values() if "@" not in who]
                assert len(proven) == len(set(proven))
            if not box.agent.ready:
                box.agent.start()
            assert box.stored() == bound
        finally:
            box.agent.devices.close()


def test_an_agent_that_comes_late_corrects_what_was_bound_without_it(tmp_path: Path) -> None:
    box = Box(tmp_path)
    assert not box.workers["left"].answers("A")
    box.start(is_agent_late=True)
    assert not box.workers["left"].answers("B")
    box.agent.start()
    assert box.workers["left"].parted == 1
    assert box.workers["left"].answers("B") == "device.new_identity"
    assert not box.workers["left"].answers("A")
    box.agent.devices.close()


def test_a_proof_that_came_while_the_agent_was_away_is_not_taken_back(tmp_path: Path) -> None:
    for is_late in (False, True):  # it was known before, or is told now
        folder = tmp_path / str(is_late)
        folder.mkdir()
        box = Box(folder)
        assert not box.workers["left"].answers("")
        if is_late:
            box.start(is_agent_late=True)
        else:
            box.agent.die()
        assert not box.workers["left"].answers("A")
        box.agent.start()
        assert box.bindings.bound == box.stored() == {"left": "accel_hat:A"}
        assert box.workers["left"].answers("B") == "device.new_identity"
        box.agent.devices.close()


def test_a_bind_without_an_agent_says_that_it_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(tmp_path)
    box.workers["left"].answers("A")
    box.workers["left"].answers("B")
    box.agent.die()
    monkeypatch.setattr("brainforge_edge.daemon.bindings.AGENT_S", 0.0)
    with pytest.raises(BrainforgeError, match="did not answer 'bind'") as refused:
        box.do("bind", device="left")
    assert refused.value.transient
    assert box.bindings.bound == {"left": "accel_hat:A"}


def test_a_worker_that_nobody_answers_trusts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainforge_edge.acquisition.binding.ANSWER_S", 0.01)
    said: list[ipc.Message] = []
    binding = Binding(DEVICES[0], {}, send=said.append)
    with pytest.raises(DeviceError, match="tried again by itself") as refused:
        binding.trust(DeviceInfo("hat", "A"))
    assert refused.value.code == "device.binding_unanswered"
    assert [type(message) for message in said] == [ipc.Answered]
    binding.close()
    with pytest.raises(DeviceError):
        binding.trust(DeviceInfo("hat", "A"))


def test_a_refusal_is_told_once_for_each_stranger() -> None:
    said: list[ipc.Message] = []
    binding = Binding(DEVICES[0], {"left": "accel_hat:A"}, send=said.append)
    for serial_number in ("B", "B", "C", "C"):
        with pytest.raises(DeviceError):
            binding.trust(DeviceInfo("hat", serial_number))
    events = [message for message in said if isinstance(message, ipc.Event)]
    assert [event.data["answered"] for event in events] == ["accel_hat:B", "accel_hat:C"]
    assert {event.event_type for event in events} == {"device.refused"}


def test_what_a_person_cannot_do_is_a_sentence(tmp_path: Path) -> None:
    box = Box(tmp_path)
    with pytest.raises(SessionError, match="no device answers under that name now") as refused:
        box.do("bind", device="left")
    assert refused.value.code == "session.nothing_answers"
    other = DeviceError("wrong_device", "p is not the hat", why="a helmet answers", remedy="Look")
    box.workers["left"].stats["error"] = other.as_dict()
    with pytest.raises(DeviceError, match="a helmet answers"):
        box.do("bind", device="left")
    del box.workers["left"].stats["error"]
    with pytest.raises(ConfigError, match="there is no device 'middle'"):
        box.do("bind", device="middle")
    with pytest.raises(ConfigError, match="64 printable"):
        box.do("alias", device="left", alias="x\n")
    box.workers["left"].answers("A")
    assert box.do("bind", device="left")["before"] == "accel_hat:A"
    box.agent.die()
    assert box.do("devices")["known"] == []
    assert box.do("devices")["error"]["code"] == "device.command_unanswered"
    box.agent.devices.close()


def test_a_place_is_bound_with_a_word_that_it_proves_nothing(tmp_path: Path) -> None:
    box = Box(tmp_path)
    assert not box.workers["left"].answers("")
    assert box.events[0]["identity"] == "accel_hat:@left"
    assert "proves no identity" in box.events[0]["note"]
    assert not box.workers["left"].answers("A")  # the first proof
    assert "note" not in box.events[1]
    assert box.workers["left"].answers("") == "device.new_identity"
    box.agent.devices.close()
