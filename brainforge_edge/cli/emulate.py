"""`emulate opm|cyton`: a device on a pseudo-terminal. Runs in: the emulator process, main thread."""

from pathlib import Path

import click

from brainforge_edge.cli.number import Number
from brainforge_edge.cli.path import GivenPath

_path = GivenPath()


@click.command()
@click.argument("kind", type=click.Choice(["opm", "cyton"]))
@click.option("--link", type=_path, help="Where the port appears.")
@click.option("--port", type=_path, help="An existing serial port instead.")
@click.option("--ledger", type=_path, help="JSON account of what was emitted.")
@click.option("--replay", type=_path, help="BDF, EDF or FIF file, looped.")
@click.option(
    "--speed",
    type=Number(least=0.01, most=100),
    default=1.0,
    show_default=True,
    help="Of the file or the clock.",
)
@click.option(
    "--sfreq",
    type=Number(least=1, most=100_000),
    help="Announce and keep this rate, Hz (opm).",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Of the synthetic recording.",
)
@click.option("--seconds", type=Number(most=1e9), help="End after this long.")
@click.option(
    "--channels",
    type=click.IntRange(1, 1024),
    help="How many; the device's own number otherwise.",
)
@click.option(
    "--fifo-s",
    type=Number(least=0.01, most=60),
    default=1.0,
    show_default=True,
    help="The device's memory.",
)
def emulate(
    kind: str,
    *,
    link: Path | None,
    port: Path | None,
    ledger: Path | None,
    replay: Path | None,
    speed: float,
    sfreq: float | None,
    seed: int,
    seconds: float | None,
    channels: int | None,
    fifo_s: float,
) -> None:
    """Emulate a device on a pseudo-terminal."""
    from brainforge_edge.emulators.device import Switches  # noqa: PLC0415 - --help stays light
    from brainforge_edge.emulators.main import obey_signals, run_emulator  # noqa: PLC0415

    switches = Switches()
    obey_signals(switches)
    run_emulator(
        kind,
        link=link,
        port=port,
        ledger=ledger,
        replay=replay,
        speed=speed,
        sfreq=sfreq,
        seed=seed,
        seconds=seconds,
        channels=channels,
        fifo_s=fifo_s,
        switches=switches,
    )
