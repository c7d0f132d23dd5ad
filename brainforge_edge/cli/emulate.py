"""`emulate KIND`: a device on a pseudo-terminal or the network. Runs in: the emulator process, main thread."""

from pathlib import Path

import click

from brainforge_edge.cli.number import Number

_path = click.Path(path_type=Path)


@click.command()
@click.argument("kind", type=click.Choice(["opm", "fnirs", "accel_hat", "cyton"]))
@click.option(
    "--link",
    required=True,
    help="Where the port appears; or tcp://:PORT, udp://:PORT (this machine only).",
)
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
@click.option(
    "--rate-error",
    type=Number(least=-0.05, most=0.05),
    default=0.0,
    show_default=True,
    help="Its crystal is fast by this part: 0.003 is 0.3 %.",
)
@click.option(
    "--pulses",
    type=Number(least=0.5, most=60),
    help="A pulse in the last channel at each whole multiple of this, s of the box clock.",
)
@click.option(
    "--fault",
    "inject",
    multiple=True,
    help="NAME@SECONDS[+DURATION]: boot, cell, fault, laser, loop, overflow, rail (not cyton).",
)
@click.option("--cold", "is_cold", is_flag=True, help="Switched off: start-up is needed (opm).")
@click.option(
    "--startup-s",
    type=Number(least=0.01, most=600),
    default=2.0,
    show_default=True,
    help="How long start-up takes (opm).",
)
def emulate(
    kind: str,
    *,
    link: str,
    ledger: Path | None,
    replay: Path | None,
    speed: float,
    sfreq: float | None,
    seed: int,
    seconds: float | None,
    channels: int | None,
    fifo_s: float,
    rate_error: float,
    pulses: float | None,
    inject: tuple[str, ...],
    is_cold: bool,
    startup_s: float,
) -> None:
    """Emulate a device on a pseudo-terminal or the network."""
    from brainforge_edge.emulators.device import Switches  # noqa: PLC0415 - --help stays light
    from brainforge_edge.emulators.main import obey_signals, run_emulator  # noqa: PLC0415

    switches = Switches()
    obey_signals(switches)
    run_emulator(
        kind,
        link=link,
        ledger=ledger,
        replay=replay,
        speed=speed,
        sfreq=sfreq,
        seed=seed,
        seconds=seconds,
        channels=channels,
        fifo_s=fifo_s,
        rate_error=rate_error,
        pulses_s=pulses,
        inject=inject,
        is_cold=is_cold,
        startup_s=startup_s,
        switches=switches,
    )
