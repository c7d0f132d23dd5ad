"""`demo`: its options, folders and last words. Runs in: the demo process, main thread."""

import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import is_terminal, json_option, print_json, print_table
from brainforge_edge.cli.path import GivenPath

_COLUMNS = (
    "stream_id",
    "emitted",
    "acquired",
    "recorded",
    "stored",
    "gaps",
    "lost",
    "duplicates",
    "digest_equal",
)


@click.command()
@click.option("--seconds", type=Number(least=2, most=86_400), default=60.0, show_default=True)
@click.option("--root", type=GivenPath(), help="Keep everything in this folder.")
@click.option("--replay-opm", type=GivenPath(), help="FIF file for the helmet.")
@click.option("--replay-cyton", type=GivenPath(), help="BDF file for the Cyton.")
@click.option(
    "--broker",
    type=click.Choice(["mosquitto", "nats"]),
    help="Which broker; the first one that is installed otherwise.",
)
@click.option("--protocol", type=click.Choice(["5", "4"]), default="5", help="MQTT 5 or 3.1.1.")
@click.option("--headless", is_flag=True, help="No live display, also on a terminal.")
@json_option
def demo(
    *,
    seconds: float,
    root: Path | None,
    replay_opm: Path | None,
    replay_cyton: Path | None,
    broker: str | None,
    protocol: str,
    headless: bool,
    as_json: bool,
) -> int:
    """Run box, devices, broker and aggregator; account for all."""
    import msgspec  # noqa: PLC0415 - --help stays light

    from brainforge_edge.cli.account import verdict  # noqa: PLC0415
    from brainforge_edge.cli.demo.display import make_display  # noqa: PLC0415
    from brainforge_edge.cli.demo.plan import DemoDevice, Plan  # noqa: PLC0415
    from brainforge_edge.cli.demo.stage import run_demo  # noqa: PLC0415
    from brainforge_edge.core.clock import SystemClock  # noqa: PLC0415

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # all children end on every way out
    with ExitStack() as stack:
        # The ring and the socket need a tmpfs and a short path, wherever the root is.
        run = Path(stack.enter_context(_temporary(Path("/dev/shm"))))  # noqa: S108 - a tmpfs
        plan = Plan(
            root=root.resolve() if root else Path(stack.enter_context(_temporary(None))),
            run=run,
            seconds=seconds,
            devices=(
                DemoDevice(name="helmet", kind="opm", emulator="opm", replay=replay_opm),
                DemoDevice(name="cyton", kind="openbci", emulator="cyton", replay=replay_cyton),
            ),
            broker={"mosquitto": "mosquitto", "nats": "nats-server"}.get(broker or "", ""),
            protocol=int(protocol),
            is_sealed=True,
        )
        display = make_display(is_silent=as_json, is_live=is_terminal() and not headless)
        with display:
            accounts = run_demo(plan, display, clock=SystemClock())
    is_whole = bool(accounts) and not any(a.differences for a in accounts)
    if as_json:
        print_json(
            {
                "ok": is_whole,
                "seconds": seconds,
                "verdict": verdict(accounts),
                "streams": msgspec.to_builtins(accounts),
            }
        )
    else:
        print_table(_COLUMNS, msgspec.to_builtins(accounts))
        click.echo(verdict(accounts))
    return 0 if is_whole else 1


def _temporary(parent: Path | None) -> "tempfile.TemporaryDirectory[str]":
    is_usable = parent is not None and parent.is_dir()
    return tempfile.TemporaryDirectory(prefix="brainforge-", dir=parent if is_usable else None)
