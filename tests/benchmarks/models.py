"""Reservoir, send-on-delta, sample entropy and a model's run, each against numpy doing the same.

The peers are numpy at its best layout: all channels at once, in a loop over what cannot be joined (rows or lags).
A kernel that is not twice as fast as that had better be numpy.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.delta import Trigger
from brainforge_edge.signal.entropy import sample_entropy
from brainforge_edge.signal.modelfile import Limits, load
from brainforge_edge.signal.reservoir import Network, ReservoirConfig, network
from tests.benchmarks.row import Row
from tests.benchmarks.timing import alternate
from tests.unit.onnx_material import WEIGHTS, linear, written

Rows = NDArray[np.float32]
ROUNDS = 21
_LEAST = 2.0


def run(rounds: int = ROUNDS) -> list[Row]:
    """In a process of its own whose BLAS has one thread, as the daemon gives its workers."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.models", str(rounds)],
        capture_output=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return msgspec.json.decode(result.stdout, type=list[Row])


def _rows(rounds: int) -> list[Row]:
    return [
        *(_reservoir(n_units, n_inputs, rounds) for n_units, n_inputs in ((200, 4), (200, 64), (1000, 4))),
        *(_delta(n_channels, rounds) for n_channels in (4, 306)),
        *(_entropy(window_s, n, rounds) for window_s, n in ((1, 4), (2, 4), (4, 4), (4, 64), (4, 306))),
        *_model(rounds),
    ]  # fmt: skip


def _row(case: str, ours: float, peer: float, unit: str, factor: float) -> Row:
    ratio = peer / ours
    return Row(
        case, ours * factor, peer * factor, unit, ratio, f">= {_LEAST:g}", met=ratio >= _LEAST
    )  # fmt: skip


def _walk(n: int, n_channels: int) -> Rows:
    rng = np.random.default_rng(n)
    return np.cumsum(rng.standard_normal((n, n_channels)), axis=0).astype(np.float32)


def _states(fixed: Network, dense: Rows, rows: Rows, out: Rows) -> None:
    x = np.zeros(fixed.n_units, np.float32)
    driven = rows @ fixed.inputs + fixed.bias
    for i, drive in enumerate(driven):
        x = (1 - fixed.leak) * x + fixed.leak * np.tanh(dense @ x + drive)
        out[i] = x


def _reservoir(n_units: int, n_inputs: int, rounds: int) -> Row:
    fixed = network(n_inputs, ReservoirConfig(n_units=n_units), np.random.default_rng(1))
    dense = np.zeros((n_units, n_units), np.float32)
    for weights, links in zip(fixed.weights, fixed.links, strict=True):
        dense[np.arange(n_units), links] = weights
    rows = np.random.default_rng(2).standard_normal((250, n_inputs)).astype(np.float32)
    out = np.empty((250, n_units), np.float32)
    state = fixed.start()
    times = alternate(
        lambda: state.states(rows, out), lambda: _states(fixed, dense, rows, out), rounds=rounds
    )
    ours, peer = (taken / len(rows) for taken in times)
    return _row(f"reservoir, {n_units} units, {n_inputs} inputs", ours, peer, "µs/row", 1e6)


def _moves(rows: Rows, thresholds: NDArray[np.float64]) -> int:
    sent, n = rows[0].astype(np.float64), int(rows.shape[1])
    for row in rows:
        moved = np.abs(row - sent) > thresholds
        if moved.any():
            sent[moved] = row[moved]
            n += int(moved.sum())
    return n


def _delta(n_channels: int, rounds: int) -> Row:
    rows, thresholds = _walk(1000, n_channels), np.full(n_channels, 5.0)
    trigger = Trigger(thresholds)

    def ours() -> int:
        trigger.gap()
        return len(trigger.push(rows))

    assert ours() == _moves(rows, thresholds)
    own, peer = alternate(ours, lambda: _moves(rows, thresholds), rounds=rounds)
    per = 1e9 / rows.size
    return _row(f"send-on-delta, {n_channels} ch", own, peer, "ns/ch-sample", per)


def _by_lags(rows: Rows) -> NDArray[np.float64]:
    x = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
    n = len(x)
    a = b = np.zeros(x.shape[1])
    for lag in range(1, n - 2):
        near = np.abs(x[lag:] - x[:-lag]) <= np.float32(0.2)
        alike = near[:-2] & near[1:-1]
        b = b + np.count_nonzero(alike, axis=0)
        a = a + np.count_nonzero(alike & near[2:], axis=0)
    result: NDArray[np.float64] = np.log(b / a)
    return result


def _entropy(window_s: int, n_channels: int, rounds: int) -> Row:
    rows = np.random.default_rng(3).standard_normal((125 * window_s, n_channels)).astype(np.float32)
    assert np.allclose(sample_entropy(rows), _by_lags(rows), atol=0.02)
    own, peer = alternate(lambda: sample_entropy(rows), lambda: _by_lags(rows), rounds=rounds)
    case = f"sample entropy, {window_s} s at 125 Hz, {n_channels} ch: {own:.2%} of a core once a second"
    return _row(case, own, peer, "ms", 1e3)


def _model(rounds: int) -> list[Row]:
    values = np.random.default_rng(4).uniform(0, 10, (2, 2))

    def by_hand() -> object:
        logits = values.astype(np.float32).reshape(1, 4) @ WEIGHTS
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), linear())
        started = time.perf_counter()
        model = load(path, limits=Limits(trial_s=300))
        taken = time.perf_counter() - started
    infer: Callable[[], object] = lambda: model.infer(values)  # noqa: E731  beside its peer
    ours, peer = alternate(infer, by_hand, rounds=rounds)
    return [
        Row("a model of 12 weights, one window; peer: its formula", ours * 1e6, peer * 1e6, "µs", peer / ours),
        Row("checking, trying and opening it, once", taken * 1e3, None, "ms", None),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_rows(int(sys.argv[1]))))
