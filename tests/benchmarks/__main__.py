"""`python -m tests.benchmarks NAME [--json] [--seconds N]`: exit status 1 when a goal is missed."""

import argparse
import importlib
import inspect
import json
import os
import sys
from pathlib import Path

import msgspec

from tests.benchmarks.row import Row

_NOT_BENCHMARKS = {"__init__", "__main__", "row", "timing"}


def names() -> list[str]:
    """Modules of this folder that have a `run`."""
    found = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(
        name
        for name in found
        if name not in _NOT_BENCHMARKS
        and "\ndef run(" in (Path(__file__).parent / f"{name}.py").read_text()
    )


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model", "CPU part")):
            return line.partition(":")[2].strip()
    return "unknown"


def table(rows: list[Row]) -> str:
    width = max(len(row.case) for row in rows)
    lines = [f"{'case':{width}}  {'ours':>12}  {'peer':>12}  {'unit':14}  {'ratio':>8}  goal"]
    for row in rows:
        peer, ratio = (
            "" if x is None else f"{x:.{n}g}" for x, n in ((row.peer, 5), (row.ratio, 3))
        )
        verdict = {True: "met", False: "MISSED", None: ""}[row.met]
        lines.append(
            f"{row.case:{width}}  {row.ours:12.5g}  {peer:>12}  {row.unit:14}  {ratio:>8}  "
            f"{row.goal}  {verdict}".rstrip()
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=names())
    parser.add_argument("--json", action="store_true", help="one JSON object with `rows`")
    parser.add_argument("--seconds", type=float, help="length of a run that has one")
    options = parser.parse_args()
    run = importlib.import_module(f"tests.benchmarks.{options.name}").run
    takes_seconds = "seconds" in inspect.signature(run).parameters
    load = os.getloadavg()
    extra = {} if options.seconds is None or not takes_seconds else {"seconds": options.seconds}
    rows: list[Row] = run(**extra)
    if options.json:
        result = {"cpu": cpu_model(), "load": load, "rows": msgspec.to_builtins(rows)}
        print(json.dumps(result))
    else:
        print(f"{cpu_model()}, load {load[0]:.2f}")
        print(table(rows))
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
