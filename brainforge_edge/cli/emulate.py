"""`emulate KIND`: a device on a port, or a stream on the network. Runs in: the emulator process, main thread."""

from pathlib import Path

import click

from brainforge_edge.cli.number import Number
from brainforge_edge.cli.path import GivenPath

_path = GivenPath()


def _given(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Not empty, which an unset variable of a script leaves."""
    if value == "":
        raise click.BadParameter("the link is empty.", ctx, param)
    return value


@click.command()
@click.argument(
    "kind",
    type=click.Choice(["opm", "fnirs", "accel_hat", "cyton", "freeeeg32", "neurosky", "lsl"]),
)
@click.option(
    "--link",
    callback=_given,
    help="Where the port appears; or tcp://:PORT, udp://:PORT, this machine only (not lsl).",
)
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
@click.option("--name", default="OMP_Helmet", show_default=True, help="Of the stream (lsl).")
@click.option("--type", "stream_type", default="MEG", show_default=True, help="Content (lsl).")
@click.option("--source-id", default="emulated", show_default=True, help="Lasting name (lsl).")
@click.option(
    "--format",
    "sample_format",
    type=click.Choice(["float32", "double64", "int32"]),
    default="float32",
    show_default=True,
    help="Of the samples (lsl).",
)
@click.option("--drop", type=(int, int), default=(0, 0), help="FIRST N indices never sent (lsl).")
@click.option("--clock-offset", type=float, default=0.0, help="Stamps wrong by this, s (lsl).")
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
@click.option("--serial-number", default="", help="Of the device (not cyton, not lsl).")
@click.option("--cold", "is_cold", is_flag=True, help="Switched off: start-up is needed (opm).")
@click.option(
    "--startup-s",
    type=Number(least=0.01, most=600),
    default=2.0,
    show_default=True,
    help="How long start-up takes (opm).",
)
@click.option(
    "--kohm",
    "kohms",
    type=Number(least=0, most=1e6),
    multiple=True,
    help="Of its electrodes in turn; 5 otherwise (cyton).",
)
def emulate(
    kind: str,
    *,
    link: str | None,
    port: Path | None,
    ledger: Path | None,
    replay: Path | None,
    speed: float,
    sfreq: float | None,
    seed: int,
    seconds: float | None,
    channels: int | None,
    name: str,
    stream_type: str,
    source_id: str,
    sample_format: str,
    drop: tuple[int, int],
    clock_offset: float,
    fifo_s: float,
    rate_error: float,
    pulses: float | None,
    inject: tuple[str, ...],
    is_cold: bool,
    startup_s: float,
    kohms: tuple[float, ...],
    serial_number: str,
) -> None:
    """Emulate a device on a port, or a stream."""
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
        rate_error=rate_error,
        pulses_s=pulses,
        inject=inject,
        is_cold=is_cold,
        startup_s=startup_s,
        ohms=tuple(1000 * kohm for kohm in kohms or (5.0,)),
        serial_number=serial_number,
        listens=click.echo,
        switches=switches,
        lsl={
            "name": name,
            "kind": stream_type,
            "source_id": source_id,
            "sample_format": sample_format,
            "drop": drop,
            "clock_offset_s": clock_offset,
        },
    )
