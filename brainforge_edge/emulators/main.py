"""One emulated device on a pseudo-terminal. Runs in: emulator process (`brainforge-edge emulate`), its only thread.

Signals: SIGUSR1 pulls the cable, SIGUSR2 puts it back, SIGHUP switches the
device off and on, SIGTERM and SIGINT end with a last ledger.
"""

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from brainforge_edge.core.clock import Clock, SystemClock
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.emulators import replay as recordings
from brainforge_edge.emulators.bfp_helmet import Helmet
from brainforge_edge.emulators.device import EmulatedDevice, Switches, run
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.openbci import Cyton
from brainforge_edge.emulators.pty import Port, PtyPort
from brainforge_edge.emulators.room import make_room, refused
from brainforge_edge.emulators.source import (
    RowSource,
    cyton_channels,
    helmet_channels,
    synthetic,
)
from brainforge_edge.emulators.tty import TtyPort

KINDS = ("opm", "cyton", "lsl")
HELMET_CHANNELS = 306
HELMET_SFREQ = 1000.0
CYTON_CHANNELS = 16
CYTON_CHOICES = (8, 16)  # a board, and one with its Daisy


def make_source(
    kind: str, *, replay: Path | None = None, seed: int = 1, channels: int | None = None
) -> RowSource:
    """What `run_emulator` with the same arguments measures; tests compute rows with it again."""
    if kind in {"opm", "lsl"}:
        if replay is not None:
            return recordings.load(replay, n_channels=channels or HELMET_CHANNELS)
        described = helmet_channels(channels or HELMET_CHANNELS)
        return synthetic(described, sfreq=HELMET_SFREQ, seed=seed, noise=300.0)
    if kind == "cyton":
        n_channels = channels or CYTON_CHANNELS
        if n_channels not in CYTON_CHOICES:
            raise ConfigError(
                "bad_channels",
                "the Cyton was not started",
                why=f"{n_channels} channels were asked for, it has 8, or 16 with its Daisy",
                remedy="Give --channels 8 or 16",
            )
        if replay is not None:
            return recordings.load(replay, n_channels=n_channels)
        sfreq = 250.0 * 8 / n_channels
        return synthetic(cyton_channels(n_channels), sfreq=sfreq, seed=seed, noise=40.0)
    raise ConfigError(
        "unknown_kind",
        f"there is no emulator for devices of kind {kind!r}",
        why=f"the kinds that exist are {', '.join(KINDS)}",
        remedy="Correct the kind",
    )


def run_emulator(
    kind: str,
    *,
    link: Path | None = None,
    port: Path | None = None,
    ledger: Path | None = None,
    replay: Path | None = None,
    speed: float = 1.0,
    seed: int = 1,
    seconds: float | None = None,
    channels: int | None = None,
    fifo_s: float = 1.0,
    sfreq: float | None = None,
    clock: Clock | None = None,
    random: Callable[[int], bytes] = os.urandom,
    switches: Switches | None = None,
    plugged: Callable[[], None] | None = None,
    lsl: dict[str, Any] | None = None,
) -> None:
    """Emulate `kind` until told to stop, on a pseudo-terminal that appears at `link` or on the
    existing serial port `port`.

    `lsl` is an outlet on the network instead, with the settings of `emulators.lsl.LslEmulator`.

    The rate is that of the source (or `sfreq`, opm only) times `speed`; a helmet announces it in
    its descriptor, a Cyton's own clock runs faster. Blocks; see `switches` and the signals above.
    """
    clock = clock or SystemClock()
    if sfreq is not None and kind not in {"opm", "lsl"}:
        raise ConfigError(
            "fixed_rate",
            f"the {kind} was not started",
            why="its rate is fixed, only a helmet and an LSL stream can announce another",
            remedy="Leave out --sfreq; --speed makes its clock run faster",
        )
    end = None if kind == "lsl" else _end(link, port)
    if ledger is not None:
        make_room(ledger, replaces=stat.S_ISREG)
        taken = link or port or Path()
        if os.path.abspath(ledger) == os.path.abspath(taken):  # noqa: PTH100  resolve follows links
            raise refused(ledger, "the port is to appear there")
    source = make_source(kind, replay=replay, seed=seed, channels=channels)
    if end is None:
        from brainforge_edge.emulators.lsl import run_lsl  # noqa: PLC0415  liblsl on use

        run_lsl(
            source,
            ledger=ledger,
            replay=replay,
            seed=seed,
            clock=clock,
            switches=switches or Switches(),
            seconds=seconds,
            sfreq=(sfreq or source.sfreq) * speed,
            **(lsl or {}),
        )
        return
    account = Ledger(
        ledger,
        kind=kind,
        n_channels=len(source.channels),
        loop_rows=source.loop_rows,
        replay=str(replay) if replay else "",
        seed=seed,
    )
    now = clock.monotonic_ns()
    device: EmulatedDevice
    if kind == "opm":
        device = Helmet(
            source,
            ledger=account,
            random=random,
            now_ns=now,
            sfreq=(sfreq or source.sfreq) * speed,
            fifo_s=fifo_s,
        )
    else:
        device = Cyton(source, ledger=account, now_ns=now, speed=speed, fifo_s=fifo_s)
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


def _end(link: Path | None, port: Path | None) -> Port:
    if link is not None and port is None:
        make_room(link, replaces=stat.S_ISLNK)
        return PtyPort(link)
    if port is not None and link is None:
        return TtyPort(port)
    raise ConfigError(
        "where",
        "the emulator was not started",
        why="it needs either a link or a port",
        remedy="Give --link PATH for a port of its own, or --port PATH for an existing one",
    )


def obey_signals(switches: Switches) -> None:
    """Install the signals of this page; only in the main thread of a process of its own."""

    def on(name: str) -> Callable[[int, FrameType | None], None]:
        return lambda _number, _frame: setattr(switches, name, True)

    signal.signal(signal.SIGUSR1, on("unplug"))
    signal.signal(signal.SIGUSR2, on("replug"))
    signal.signal(signal.SIGHUP, on("restart"))
    signal.signal(signal.SIGTERM, on("stop"))
    signal.signal(signal.SIGINT, on("stop"))
