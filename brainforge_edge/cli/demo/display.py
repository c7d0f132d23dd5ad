"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere.

Runs in: the demo process, main thread.
"""

import sys
from types import TracebackType
from typing import Any, Protocol, Self

import click
import msgspec


class StreamProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One stream at one instant."""

    stream_id: str
    state: str
    rate: float  # rows a second since the last look
    head: int
    written: int
    durable: int
    log_bytes: int
    stored: int
    gaps: int


_WITH_DEVICES = ("starting", "recording")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The whole demo at one instant."""

    phase: str
    elapsed_s: float
    seconds: float
    lag_chunks: int
    lag_bytes: int
    streams: tuple[StreamProgress, ...]


class Display(Protocol):
    def show(self, progress: Progress) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def make_display(*, is_silent: bool, is_live: bool) -> Display:
    """Silent for `--json`, live on a terminal, else lines on stderr every few seconds."""
    if is_silent:
        return _Silent()
    return _Live() if is_live else _Lines()


class _Silent:
    def show(self, progress: Progress) -> None:
        del progress

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _Lines(_Silent):
    """One line a stream, every `_EVERY_S` and whenever the phase changes."""

    _EVERY_S = 5.0

    def __init__(self) -> None:
        self._next = 0.0
        self._phase = ""

    def show(self, progress: Progress) -> None:
        if progress.phase == self._phase and progress.elapsed_s < self._next:
            return
        self._phase = progress.phase
        self._next = progress.elapsed_s + self._EVERY_S
        click.echo(f"[{progress.elapsed_s:5.1f} s] {progress.phase}", file=sys.stderr)
        for stream in progress.streams:
            click.echo(
                f"    {stream.stream_id}: {stream.rate:.0f} rows/s, head {stream.head}, "
                f"written {stream.written}, durable {stream.durable}, "
                f"log {_size(stream.log_bytes)}, stored {stream.stored}, gaps {stream.gaps}",
                file=sys.stderr,
            )
        if progress.streams:
            lag = f"{progress.lag_chunks} chunks, {_size(progress.lag_bytes)}"
            click.echo(f"    uplink lag {lag}", file=sys.stderr)


class _Live(_Silent):
    """A table that is redrawn in place."""

    def __init__(self) -> None:
        from rich.live import Live  # noqa: PLC0415 - only on a terminal

        self._live = Live(auto_refresh=False, transient=False)

    def show(self, progress: Progress) -> None:
        self._live.update(_table(progress), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def _table(progress: Progress) -> Any:
    from rich.table import Table  # noqa: PLC0415 - only on a terminal

    lag = f"uplink lag {progress.lag_chunks} chunks, {_size(progress.lag_bytes)}"
    clock = f"{min(progress.elapsed_s, progress.seconds):.0f} of {progress.seconds:.0f} s"
    table = Table(  # no lines: it has to fit in 80 columns
        title=f"{progress.phase}   {clock}   {lag}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    names = ("stream", "state", "rows/s", "head", "written", "durable", "log", "stored", "gaps")
    for name in names:
        table.add_column(name, justify="left" if name in {"stream", "state"} else "right")
    for stream in progress.streams:
        cells = (
            stream.stream_id,
            stream.state if progress.phase in _WITH_DEVICES else "ended",  # we ended them
            f"{stream.rate:.0f}",
            str(stream.head),
            str(stream.written),
            str(stream.durable),
            _size(stream.log_bytes),
            str(stream.stored),
            str(stream.gaps),
        )
        table.add_row(*cells)
    return table


def _size(n: int) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 100_000 else f"{n / 1e3:.1f} kB"
