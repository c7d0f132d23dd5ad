"""`features`: band powers, quality and age of what is measured now. Runs in: the CLI process."""

import time
from pathlib import Path
from typing import Any

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.output import escaped, is_terminal, json_option, print_json, print_table
from brainforge_edge.cli.target import daemon_options, daemon_socket

PERIOD_S = 0.5
OLD_MS = 3000.0
_BARS = " ▁▂▃▄▅▆▇█"
_HOME = "\x1b[H\x1b[2J"


@click.command()
@click.argument("stream", default="")
@daemon_options
@click.option("--first", type=click.IntRange(0, 1024), default=0, help="Begin with this channel.")
@click.option(
    "--n", "n_channels", type=click.IntRange(1, 128), default=32, show_default=True,
    help="Channels to show.",
)  # fmt: skip
@click.option("--watch", is_flag=True, help="Look again and again until Ctrl-C.")
@json_option
def features(
    stream: str,
    config: Path | None,
    run_folder: Path | None,
    *,
    first: int,
    n_channels: int,
    watch: bool,
    as_json: bool,
) -> None:
    """Show band powers, quality and age of a stream, or a line for each."""
    socket = daemon_socket(config, run_folder)
    while True:
        reply = request(socket, "features", stream=stream, first=first, n=n_channels)
        if as_json:
            print_json(reply)
        else:
            if watch and is_terminal():
                click.echo(_HOME, nl=False)
            _show(reply)
        if not watch:
            return
        time.sleep(PERIOD_S)


def _show(reply: dict[str, Any]) -> None:
    if "streams" in reply:
        columns = ("stream_id", "state", "n_channels", "rate_hz", "age_ms", "quality")
        print_table(columns, [row(line) for line in reply["streams"]])
        return
    for line in lines(reply):
        click.echo(escaped(line))


def row(line: dict[str, Any]) -> dict[str, Any]:
    """One stream among all. Of one that is silent the last figures are no news: they are left out."""
    if line.get("age_ms", 0.0) > OLD_MS:
        return {**line, "state": "no rows", "rate_hz": 0.0, "quality": ""}
    return {**line, "quality": _counted(line.get("quality") or {})}


def _counted(words: dict[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in sorted(words.items()))


def lines(reply: dict[str, Any]) -> list[str]:
    """A stream's figures: one line a channel, then the reasons in words."""
    figures = reply.get("features")
    if figures is None:
        return [f"{reply['stream_id']}: warming up: no window is full yet"]
    bands = list(figures["windows"][0]["powers"])
    said = [
        f"{reply['stream_id']}: age {reply['age_ms']:.0f} ms, and half of a window; "
        f"{figures['rate_hz']:g} times a second; bars: {', '.join(bands)}, parts of all power"
    ]
    if reply["age_ms"] > OLD_MS:
        said.append(f"no rows for {reply['age_ms'] / 1e3:.0f} s: these are the last figures")
    if figures["shed"]:
        said.append(f"for want of time left out: {', '.join(figures['shed'])}")
    names = figures["channels"]
    width = max([len(name) for name in names], default=0)
    quality = [word or "not judged" for word in figures["quality"]]
    widest = max([len(word) for word in quality], default=0)
    for i, name in enumerate(names):
        cells = [_window(window, i, len(bands), figures["unit"]) for window in figures["windows"]]
        said.append(f"{name:{width}}  {quality[i]:{widest}}  {'  '.join(cells)}".rstrip())
    shown = reply["first"] + len(names)
    if shown < reply["n_channels"]:
        said.append(f"{reply['n_channels'] - shown} more: see --first and --n")
    said += [f"{word}: {why}" for word, why in reply["reasons"].items()]
    said += [f"{word}: {why}" for word, why in reply["quality_reasons"].items() if why]
    return said


def _window(window: dict[str, Any], i: int, n_bands: int, unit: str) -> str:
    """Bars and the root of all bands' power; why not, where there are no figures."""
    head = f"{window['window_s']} s"
    trouble = window["trouble"][i]
    if trouble:
        return f"{head} {'warming up: ' + trouble:{n_bands + 13}}"
    bars = "".join(_bar(values[i]) for values in window["relative"].values())
    power = sum(values[i] or 0.0 for values in window["powers"].values())
    return f"{head} {bars} {_prefixed(power**0.5, unit):>12}"


def _bar(part: float | None) -> str:
    return "·" if part is None else _BARS[min(8, round(part * 8 + 0.49))]


_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def _prefixed(value: float, unit: str) -> str:
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value / 1e-15:.3g} f{unit}"
