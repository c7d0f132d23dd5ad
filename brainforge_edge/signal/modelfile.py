"""A model file and its declaration: all that is checked before a model is used.

Runs in: pipeline worker; and in a short-lived child (`python -m …modelfile`), which a new model may crash,
fill or hold up, and nothing else with it.
"""

import hashlib
import math
import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from brainforge_edge.core.errors import BrainforgeError, from_dict
from brainforge_edge.signal import declaration
from brainforge_edge.signal.declaration import Declaration, refused
from brainforge_edge.signal.inference import Model, opened, run, runtime
from brainforge_edge.signal.onnxfile import survey

_DOMAINS: Final = {"", "ai.onnx.ml"}
# What makes an answer depend on more than the input, or its duration on the input.
_BRANCHES: Final = {"If", "Loop", "Scan", "SequenceMap"}
_CHANCE: Final = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_UNBOUND: Final = _BRANCHES | _CHANCE
_N_TIMED: Final = 5


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    file_mib: int = 32
    memory_mib: int = 512  # beside the runtime's own, in the trial
    trial_s: float = 60.0  # all of the trial: reading, optimising, running it ten times
    run_s: float = (
        0.1  # the fastest run of it: above that it cannot keep up with 10 windows a second
    )


def load(
    path: Path, *, limits: Limits | None = None, clock: Callable[[], int] = time.perf_counter_ns
) -> Model:
    """The model in the ONNX file `path`, declared in the TOML file of the same name beside it.

    Takes 0.3 s and at most `trial_s`: not for the thread that live windows wait for.

    ConfigError `model_…` for every reason not to use it; docs/signal.md lists them.
    """
    limits = limits or Limits()
    source = path.name
    text = _read(path.parent / f"{path.stem}.toml", declaration.MOST_BYTES, source)
    try:
        declared = declaration.parse(text.decode("utf-8"), source)
    except UnicodeDecodeError as error:
        why = "its declaration is not UTF-8 text"
        raise refused("declaration", source, why, "Save the declaration as UTF-8") from error
    data = _read(path, limits.file_mib * 1024 * 1024, source)
    if hashlib.sha256(data).hexdigest() != declared.sha256:
        raise refused(
            "digest",
            source,
            "its SHA-256 is not the declared one: it is another file, or a damaged one",
            "Copy model and declaration again, together",
        )
    check_structure(data, source)
    runtime(source)
    _try(data, declared, limits, source)
    return Model(declared, opened(data, declared, source), source, limits.run_s, clock)


def _read(path: Path, most: int, source: str) -> bytes:
    """A regular file of at most so many bytes, never more of it than that."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                why = f"{path.name} is no file"
                raise refused("file", source, why, "Put the file itself there")
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        why = f"{path.name}: {error.strerror.lower() if isinstance(error, OSError) and error.strerror else error}"
        remedy = "Put model and declaration side by side, readable for the daemon's user"
        raise refused("file", source, why, remedy) from error
    if len(data) > most:
        why = f"{path.name} has more than {most // 1024} KiB"
        raise refused("too_large", source, why, "Use a smaller model")
    return data


def check_structure(data: bytes, source: str) -> None:
    try:
        found = survey(data)
    except ValueError as error:
        remedy = "Export the model as ONNX, and copy it whole"
        raise refused("not_onnx", source, str(error), remedy) from error
    if found.has_external_data:
        why = "its weights lie in other files, which no digest covers"
        raise refused("external_data", source, why, "Save the model with its weights in one file")
    foreign = sorted(f"{d}.{op}" if d else op for d, op in found.operators if d not in _DOMAINS)
    unbound = sorted(op for _, op in found.operators if op in _UNBOUND)
    if found.has_subgraphs or found.has_functions or found.has_training or foreign or unbound:
        named = ", ".join([*foreign, *unbound][:5]) or "functions, graphs within graphs or training"
        raise refused(
            "operator",
            source,
            f"it uses {named}; allowed are operators of ONNX itself without branches, loops and chance",
            "Export the model for inference, without these",
        )


class _Trial(msgspec.Struct, frozen=True):
    data: bytes
    declared: Declaration
    limits: Limits
    source: str


def _try(data: bytes, declared: Declaration, limits: Limits, source: str) -> None:
    """Open and run it in a child of bounded time and memory; its refusal is ours."""
    request = msgspec.msgpack.encode(_Trial(data, declared, limits, source))
    try:
        result = subprocess.run(
            [sys.executable, "-m", "brainforge_edge.signal.modelfile"],
            input=request,
            capture_output=True,
            check=False,
            timeout=limits.trial_s,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        why = f"its trial took longer than {limits.trial_s:g} s"
        raise refused("slow", source, why, "Use a smaller model") from error
    except OSError as error:
        why = f"no process can be started to try it: {error.strerror}"
        raise refused("failed", source, why, "Free memory, and load it again") from error
    try:
        answer = msgspec.json.decode(result.stdout, type=dict[str, object])
    except msgspec.DecodeError as error:
        why = f"it ended the process that tried it ({result.returncode})"
        remedy = "Do not use this model: a smaller one, or one of another exporter"
        raise refused("crashed", source, why, remedy) from error
    if answer:
        raise from_dict(answer)


def _trial(request: _Trial) -> None:
    """In the child: open it, run it over its declared range, time it."""
    runtime(request.source)
    _bound(request.limits)
    given = request.declared.input
    session = opened(request.data, request.declared, request.source)
    middle = given.low / 2 + given.high / 2
    probes = [np.full(given.given, value) for value in (given.low, middle, given.high)]
    probes += [np.random.default_rng(n).uniform(size=given.given) for n in range(2)]
    probes[3:] = [given.low + (given.high - given.low) * each for each in probes[3:]]
    for values in probes:
        run(session, request.declared, given.ordered(values), request.source)
    fastest = math.inf
    for _ in range(_N_TIMED):
        started = time.perf_counter()
        run(session, request.declared, given.ordered(probes[-1]), request.source)
        fastest = min(fastest, time.perf_counter() - started)
    if fastest > request.limits.run_s:
        why = f"one run takes {fastest * 1e3:.3g} ms, allowed are {request.limits.run_s * 1e3:.3g}"
        raise refused("slow", request.source, why, "Use a smaller model")


def _bound(limits: Limits) -> None:
    """Memory from here on, once the runtime itself is loaded; no file, no core dump."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + limits.memory_mib * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    seconds = (
        math.ceil(limits.trial_s) + 1
    )  # should the worker die meanwhile, and nobody end this one
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main() -> None:
    """One JSON object is the answer, an empty one for a model that passed. What the runtime prints, as it does
    of some damaged graphs, goes elsewhere."""
    answer = os.dup(1)
    os.dup2(2, 1)
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Trial)
    said: dict[str, object] = {}
    try:
        _trial(request)
    except BrainforgeError as error:
        said = error.as_dict()
    os.write(answer, msgspec.json.encode(said))


if __name__ == "__main__":
    _main()
