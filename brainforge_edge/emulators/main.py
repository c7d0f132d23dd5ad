"""One emulated device on a pseudo-terminal or the network. Runs in: emulator process (`brainforge-edge emulate`), its only thread.

Signals: SIGUSR1 pulls the cable, SIGUSR2 puts it back, SIGHUP switches the
device off and on, SIGTERM and SIGINT end with a last ledger.
"""

import os
import signal
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from brainforge_edge.core.clock import Clock, SystemClock
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.devices.network import is_network
from brainforge_edge.emulators import bfp_kinds, faults
from brainforge_edge.emulators.device import EmulatedDevice, Port, Switches, run
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.netport import Mangling, NetPort
from brainforge_edge.emulators.openbci import OHMS, Cyton
from brainforge_edge.emulators.pty import PtyPort
from brainforge_edge.emulators.room import make_room, refused
from brainforge_edge.emulators.selfstarting import (
    SelfStarting,
    freeeeg_frame,
    pulses_16,
    thinkgear_frame,
)
from brainforge_edge.emulators.source import LoopSource, PulseTrain, RowSource
from brainforge_edge.emulators.sources import KINDS, announced, make_source, make_sources
from brainforge_edge.emulators.tty import TtyPort

__all__ = ["KINDS", "make_source", "obey_signals", "run_emulator"]

_OURS = ("opm", "fnirs", "accel_hat")  # with BFP/1


def run_emulator(
    kind: str,
    *,
    link: Path | str | None = None,
    port: Path | None = None,
    ledger: Path | None = None,
    replay: Path | None = None,
    speed: float = 1.0,
    seed: int = 1,
    seconds: float | None = None,
    channels: int | None = None,
    fifo_s: float = 1.0,
    sfreq: float | None = None,
    rate_error: float = 0.0,
    pulses_s: float | None = None,
    inject: Sequence[str] = (),
    is_cold: bool = False,
    startup_s: float = 2.0,
    ohms: Sequence[float] = OHMS,
    serial_number: str = "",
    mangling: Mangling | None = None,
    clock: Clock | None = None,
    random: Callable[[int], bytes] = os.urandom,
    switches: Switches | None = None,
    plugged: Callable[[], None] | None = None,
    listens: Callable[[str], object] = lambda _: None,
    lsl: dict[str, Any] | None = None,
) -> None:
    """Emulate `kind` until told to stop, on a pseudo-terminal that appears at `link`, at tcp:// or udp://,
    or on the existing serial port `port`.

    The rate is that of the source (or `sfreq`, opm only) times `speed`; a BFP/1 device announces it in
    its descriptor, a Cyton's own clock runs faster. `rate_error` no device announces. `inject`:
    `faults.parse`. `listens` is told the address of a port on the network. `ohms` are the impedances of a Cyton's electrodes. `lsl` is an outlet on the network instead, with the settings of
    `emulators.lsl.LslEmulator`. Blocks; see `switches` and the signals above.
    """
    clock = clock or SystemClock()
    sources = make_sources(kind, replay=replay, seed=seed, channels=channels)
    speed = announced(kind, sources[0], speed=speed, sfreq=sfreq)
    where = str(link or port or "")
    _check(kind, where, inject)
    if kind != "lsl" and (link is None) == (port is None):
        raise ConfigError(
            "where",
            "the emulator was not started",
            why="it needs either a link or a port",
            remedy="Give --link PATH for a port of its own, or --port PATH for an existing one",
        )
    if link is not None and not is_network(where):
        make_room(Path(link), replaces=stat.S_ISLNK)
    if ledger is not None:
        make_room(ledger, replaces=stat.S_ISREG)
        if where and os.path.abspath(ledger) == os.path.abspath(where):  # noqa: PTH100  resolve follows links
            raise refused(ledger, "the port is to appear there")
    train = PulseTrain(pulses_s, min(0.5, pulses_s / 2)) if pulses_s else None
    if kind == "lsl":
        from brainforge_edge.emulators.lsl import run_lsl  # noqa: PLC0415  liblsl on use

        run_lsl(
            sources[0],
            ledger=ledger,
            replay=replay,
            seed=seed,
            clock=clock,
            switches=switches or Switches(),
            seconds=seconds,
            sfreq=sources[0].sfreq * speed,
            pulses=train,
            **(lsl or {}),
        )
        return
    account = Ledger(
        ledger,
        kind=kind,
        n_channels=sum(len(source.channels) for source in sources),
        loop_rows=sources[0].loop_rows,
        replay=str(replay) if replay else "",
        seed=seed,
    )
    if train is not None:
        account.note(pulses=train._asdict())
    if rate_error:
        account.note(rate_error=rate_error)
    now = clock.monotonic_ns()
    around = bfp_kinds.Circumstances(
        account,
        random,
        now,
        speed=speed,
        fifo_s=fifo_s,
        rate_error=rate_error,
        pulses=train,
        faults=faults.Faults([faults.parse(text) for text in inject], now),
        serial_number=serial_number,
    )
    device = _make(kind, sources, around, is_cold=is_cold, startup_s=startup_s, ohms=ohms)
    end: Port = PtyPort(Path(where)) if port is None else TtyPort(port)
    if is_network(where):
        end = _network_port(where, device, clock, account, mangling)
        listens(end.address)
    try:
        run(
            device,
            end,
            ledger=account,
            clock=clock,
            switches=switches or Switches(),
            seconds=seconds,
            plugged=plugged,
        )
    finally:
        end.unplug()  # no port without its device, whatever ended it


def _check(kind: str, where: str, inject: Sequence[str]) -> None:
    """ConfigError for what only our own devices have."""
    if kind in _OURS:
        return
    if inject:
        raise ConfigError(
            "bad_fault",
            f"the {kind} was not started",
            why="only devices with BFP/1 can be told to fail",
            remedy="Leave out --fault; signals pull the cable and switch it off and on",
        )
    if is_network(where):
        raise ConfigError(
            "bad_link",
            f"the {kind} was not started at {where}",
            why=f"only {', '.join(_OURS)} have a network link",
            remedy="Give --link PATH for a port of its own, or --port PATH for an existing one",
        )


def _make(
    kind: str,
    sources: list[LoopSource] | list[RowSource],
    around: bfp_kinds.Circumstances,
    *,
    is_cold: bool,
    startup_s: float,
    ohms: Sequence[float],
) -> EmulatedDevice:
    if kind == "opm":
        return bfp_kinds.helmet(sources[0], around, is_cold=is_cold, startup_s=startup_s)
    if kind == "fnirs":
        return bfp_kinds.optical(sources[0], sources[1], around)
    if kind == "accel_hat":
        return bfp_kinds.hat(sources, around)
    if kind in {"freeeeg32", "neurosky"}:
        return _self_starting(kind, sources[0], around)
    return Cyton(
        sources[0],
        ledger=around.ledger,
        now_ns=around.now_ns,
        speed=around.speed * (1 + around.rate_error),
        fifo_s=around.fifo_s,
        pulses=around.pulses,
        ohms=ohms,
    )


def _self_starting(kind: str, source: RowSource, around: bfp_kinds.Circumstances) -> SelfStarting:
    train = around.pulses if kind == "freeeeg32" else pulses_16(around.pulses)
    if train is not None:
        around.ledger.note(pulses=train._asdict())
    return SelfStarting(
        source,
        freeeeg_frame if kind == "freeeeg32" else thinkgear_frame,
        ledger=around.ledger,
        now_ns=around.now_ns,
        speed=around.speed * (1 + around.rate_error),
        fifo_s=around.fifo_s,
        pulses=train,
    )


def _network_port(
    where: str, device: EmulatedDevice, clock: Clock, account: Ledger, mangling: Mangling | None
) -> NetPort:
    def changed() -> None:
        now = clock.monotonic_ns()
        device.unplugged(now)
        device.plugged(now)

    port = NetPort(where, changed=changed, mangling=mangling, clock=clock)
    port.plug()
    account.note(link=port.address)
    return port


def obey_signals(switches: Switches) -> None:
    """Install the signals of this page; only in the main thread of a process of its own."""

    def on(name: str) -> Callable[[int, FrameType | None], None]:
        return lambda _number, _frame: setattr(switches, name, True)

    signal.signal(signal.SIGUSR1, on("unplug"))
    signal.signal(signal.SIGUSR2, on("replug"))
    signal.signal(signal.SIGHUP, on("restart"))
    signal.signal(signal.SIGTERM, on("stop"))
    signal.signal(signal.SIGINT, on("stop"))
