"""`python -m tests.fuzz TARGET --runs N`: one target under atheris (libFuzzer), from a seed.

The corpus begins with captured bytes and valid frames and lies in a folder of its own, as does what
the target's stores write; both are gone afterwards. Needs the extra `fuzz`. Exit 1: an input was
found that fails; it is left in `--keep`. `--replay FILE` gives one input to a target without atheris.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_MEMORY = Path("/dev/shm")  # a tmpfs: what a store syncs there costs nothing
_TIMEOUT_S = 10  # of one input
_MOST_MIB = 1024


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=0, help="at most this long; 0 for no end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--most-bytes", type=int, default=0, help="of an input; 0: as the target says"
    )
    parser.add_argument("--keep", type=Path, default=Path())
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)  # what the outer process prepared
    said = parser.parse_args(arguments)
    said.keep.mkdir(parents=True, exist_ok=True)
    if said.corpus:
        _fuzz(said)
        return 0
    if said.replay:
        return _replay(said.target, said.replay.read_bytes())
    where = _MEMORY if _MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="bf-fuzz-", dir=where) as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        inner = [sys.executable, "-m", "tests.fuzz", *arguments, "--corpus", str(corpus)]
        return subprocess.run(inner, env={**os.environ, "TMPDIR": folder}, check=False).returncode


def _fuzz(said: argparse.Namespace) -> None:
    import atheris  # noqa: PLC0415  an extra

    with atheris.instrument_imports(include=["brainforge_edge", "tomllib"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    target = TARGETS[said.target]
    for number, data in enumerate(target.seeds()):
        (Path(said.corpus) / f"seed{number:03d}").write_bytes(data)
    options = [
        f"-runs={said.runs}",
        f"-seed={said.seed}",
        f"-max_total_time={said.seconds}",
        f"-max_len={said.most_bytes or target.max_bytes}",
        f"-timeout={_TIMEOUT_S}",
        f"-rss_limit_mb={_MOST_MIB}",
        f"-artifact_prefix={said.keep}/{said.target}-",
        "-print_final_stats=1",
    ]
    with target.start() as run:
        atheris.Setup([sys.argv[0], *options, said.corpus], run)
        atheris.Fuzz()


def _replay(name: str, data: bytes) -> int:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    with TARGETS[name].start() as run:
        run(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
