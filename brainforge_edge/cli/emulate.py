"""`emulate KIND`: a device on a port, or a stream on the network. Runs in: the emulator process, main thread."""

from pathlib import Path

import click
from click.core import ParameterSource

from brainforge_edge.cli.number import Number
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import ConfigError

_path = GivenPath()
_KINDS = ("opm", "fnirs", "accel_hat", "cyton", "freeeeg32", "neurosky", "lsl")
_OURS = frozenset({"opm", "fnirs", "accel_hat"})
_LSL = frozenset({"lsl"})
# Parameters that not every kind has; replay, sfreq and inject are refused where they would be used.
_ONLY: dict[str, frozenset[str]] = {
    "link": frozenset(_KINDS) - _LSL,
    "port": frozenset(_KINDS) - _LSL,
    "channels": _OURS | {"cyton", "lsl"},
    "fifo_s": frozenset(_KINDS) - _LSL,
    "rate_error": frozenset(_KINDS) - _LSL,
    "serial_number": _OURS,
    "is_cold": frozenset({"opm"}),
    "startup_s": frozenset({"opm"}),
    "kohms": frozenset({"cyton"}),
    "name": _LSL,
    "stream_type": _LSL,
    "source_id": _LSL,
    "sample_format": _LSL,
    "drop": _LSL,
    "clock_offset": _LSL,
}


def _given(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Not empty, which an unset variable of a script leaves."""
    if value == "":
        raise click.BadParameter(f"the {param.name} is empty.", ctx, param)
    return value


def _text(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """What can be sent: bytes of the command line that are no UTF-8 cannot."""
    if not value.isprintable():  # Python puts surrogates in their place
        raise click.BadParameter("it is not printable UTF-8 text.", ctx, param)
    return value


def _name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    _given(ctx, param, value)
    return _text(ctx, param, value)


def _check_options(ctx: click.Context, kind: str) -> None:
    """ConfigError for the first option that a device of this kind does not have."""
    for param in ctx.command.params:
        kinds = _ONLY.get(param.name or "")
        if kinds is None or kind in kinds:
            continue
        if ctx.get_parameter_source(param.name or "") is not ParameterSource.DEFAULT:
            option = param.opts[0]
            raise ConfigError(
                "bad_option",
                f"the {kind} was not started",
                why=f"{option} is only for {', '.join(k for k in _KINDS if k in kinds)}",
                remedy=f"Leave out {option}",
            )


@click.command()
@click.argument(
    "kind",
    type=click.Choice(_KINDS),
)
@click.option(
    "--link",
    callback=_given,
    help="Where the port appears; or tcp://:PORT, udp://:PORT, this machine only "
    "(opm, fnirs, accel_hat).",
)
@click.option("--port", type=_path, help="An existing serial port instead (not lsl).")
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
    help="Announce and keep this rate, Hz (opm, lsl).",
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
    help="How many; the device's own number otherwise (not freeeeg32, not neurosky).",
)
@click.option(
    "--name",
    default="OMP_Helmet",
    show_default=True,
    callback=_name,
    help="Of the stream (lsl).",
)
@click.option(
    "--type",
    "stream_type",
    default="MEG",
    show_default=True,
    callback=_text,
    help="Content (lsl).",
)
@click.option(
    "--source-id",
    default="emulated",
    show_default=True,
    callback=_text,
    help="Lasting name (lsl).",
)
@click.option(
    "--format",
    "sample_format",
    type=click.Choice(["float32", "double64", "int32"]),
    default="float32",
    show_default=True,
    help="Of the samples (lsl).",
)
@click.option(
    "--drop",
    type=(click.IntRange(0), click.IntRange(0)),
    default=(0, 0),
    help="FIRST N indices never sent (lsl).",
)
@click.option(
    "--clock-offset",
    type=Number(least=-1e10, most=1e10),
    default=0.0,
    help="Stamps wrong by this, s (lsl).",
)
@click.option(
    "--fifo-s",
    type=Number(least=0.01, most=60),
    default=1.0,
    show_default=True,
    help="The device's memory (not lsl).",
)
@click.option(
    "--rate-error",
    type=Number(least=-0.05, most=0.05),
    default=0.0,
    show_default=True,
    help="Its crystal is fast by this part: 0.003 is 0.3 % (not lsl).",
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
    help="NAME@SECONDS[+DURATION]: boot, cell, fault, laser, loop, overflow, rail "
    "(opm, fnirs, accel_hat).",
)
@click.option(
    "--serial-number", default="", callback=_text, help="Of the device (opm, fnirs, accel_hat)."
)
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
@click.pass_context
def emulate(
    ctx: click.Context,
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
    _check_options(ctx, kind)
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
