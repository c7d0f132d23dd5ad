"""The demo from the first process to the last. Runs in: the demo process, main thread.

Order at the end: the devices stop, so that their ledgers are final; what they sent is acquired; the
recording is stopped; the uplink drains; daemon, aggregator and broker end; then the books are opened.
"""

from collections.abc import Callable

from brainforge_edge.cli.account import StreamAccount, account
from brainforge_edge.cli.client import request
from brainforge_edge.cli.demo.children import Child, Children, python
from brainforge_edge.cli.demo.display import Display
from brainforge_edge.cli.demo.evidence import collect, recorded_rows
from brainforge_edge.cli.demo.plan import Plan
from brainforge_edge.cli.demo.watch import Watch
from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import SOCKET_NAME
from brainforge_edge.core.errors import DeviceError, TransportError

START_S = 45.0
LEDGER_S = 20.0
SETTLE_S = 20.0
SETTLED_S = 1.5  # heads that stand still for this long have come to an end
STOP_S = 120.0
_LOOK_S = 0.5


def run_demo(plan: Plan, display: Display, *, clock: Clock) -> list[StreamAccount]:
    """Start everything, wait, stop in order; the account of every stream."""
    plan.make_folders()
    kind = BrokerKind(plan.broker) if plan.broker else None
    watch = Watch(plan, clock=clock)
    try:
        with EmbeddedBroker(plan.root / "broker", kind=kind) as broker, Children(plan.logs) as all_:
            emulators = _start(plan, all_, broker.port)
            acquired = _run(plan, watch, display, clock=clock, children=all_, emulators=emulators)
            _drain(plan, watch, display, clock=clock, children=all_)
        return [account(evidence) for evidence in collect(plan, acquired)]
    finally:
        watch.close()


def _start(plan: Plan, children: Children, port: int) -> list[Child]:
    plan.make_keys()
    plan.write_config(port)
    arguments = ("--root", str(plan.cloud), "--broker", f"127.0.0.1:{port}")
    command: tuple[str, ...] = ("cloud", "run", *arguments, "--protocol", str(plan.protocol))
    if plan.is_sealed:
        command = (*command, "--keys", str(plan.cloud_keys))
    children.start("aggregator", python("brainforge_edge.cli.main", *command), {})
    emulators = []
    for device in plan.devices:
        options = ["--link", str(plan.link(device)), "--ledger", str(plan.ledger(device))]
        if device.replay is not None:
            options += ["--replay", str(device.replay)]
        command_line = python("brainforge_edge.cli.main", "emulate", device.emulator, *options)
        emulators.append(children.start(f"emulator-{device.name}", command_line, {}))
    daemon = python("brainforge_edge.cli.main", "run", "--config", str(plan.config))
    children.start("daemon", daemon, {})
    return emulators


def _run(
    plan: Plan,
    watch: Watch,
    display: Display,
    *,
    clock: Clock,
    children: Children,
    emulators: list[Child],
) -> dict[str, int]:
    """Until the devices have stopped and all they sent is acquired: rows by stream."""

    def keep_looking(phase: str, is_over: Callable[[], bool]) -> None:
        while True:
            display.show(watch.look(phase))
            children.check()
            if is_over():
                return
            clock.sleep(_LOOK_S)

    def is_streaming() -> bool:
        devices = {s.get("device") for s in watch.status.get("streams", []) if s.get("head")}
        if len(devices) == len(plan.devices):
            return True
        if watch.elapsed_s() > START_S:
            missing = [d.name for d in plan.devices if d.name not in devices]
            raise DeviceError(
                "demo_silent",
                f"no samples came from {', '.join(missing)}",
                why=f"nothing arrived within {START_S:g} s",
                remedy="Run the demo again with --root DIR and read DIR/logs",
            )
        return False

    keep_looking("starting", is_streaming)
    watch.restart_clock()
    keep_looking("recording", lambda: watch.elapsed_s() >= plan.seconds)
    for emulator in emulators:
        emulator.terminate()
    for emulator in emulators:
        if not emulator.wait(LEDGER_S):
            raise DeviceError(
                "demo_emulator",
                f"{emulator.name} did not end",
                why=f"it was asked to {LEDGER_S:g} s ago",
                remedy="Run the demo again with --root DIR and read DIR/logs",
            )
    children.release(emulators)
    _settle(watch, display, clock=clock)
    return watch.heads()


def _settle(watch: Watch, display: Display, *, clock: Clock) -> None:
    """Wait until no more rows come out of the ports."""
    since = started = clock.monotonic_ns()
    heads: dict[str, int] = {}
    while (
        now := clock.monotonic_ns()
    ) - since < SETTLED_S * 1e9 and now - started < SETTLE_S * 1e9:
        display.show(watch.look("devices stopped"))
        if watch.heads() != heads:
            heads, since = watch.heads(), clock.monotonic_ns()
        clock.sleep(_LOOK_S / 2)


def _drain(plan: Plan, watch: Watch, display: Display, *, clock: Clock, children: Children) -> None:
    """Stop the recording, then wait until the store has what the box has, for a bounded time."""
    request(plan.run / SOCKET_NAME, "stop", timeout_s=STOP_S)
    wanted = recorded_rows(plan.recordings)
    started = clock.monotonic_ns()
    most_s = 30.0 + plan.seconds / 2
    while any(watch.stored(stream_id) < rows for stream_id, rows in wanted.items()):
        display.show(watch.look("draining"))
        children.check()
        if clock.monotonic_ns() - started > most_s * 1e9:
            return  # the account says what is missing
        clock.sleep(_LOOK_S)
    display.show(watch.look("stored"))
    if not wanted:
        raise TransportError(
            "demo_empty",
            "the demo recorded nothing",
            why="the box has no recording",
            remedy="Run the demo again with --root DIR and read DIR/logs",
        )
