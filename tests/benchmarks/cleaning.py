"""What cleaning costs, stage by stage, in chunks of 0.05 s: part of a core at the stream's rate. No peer, no goal."""

import os
import subprocess
import sys
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.chain import Chain, ChainConfig
from brainforge_edge.signal.design import design
from brainforge_edge.signal.motion import MotionRegression
from brainforge_edge.signal.projection import Projection
from brainforge_edge.signal.reference import Reference
from brainforge_edge.signal.regression import Regression
from tests.benchmarks.row import Row
from tests.benchmarks.timing import alternate

CASES = ((256, 4), (250, 18), (1000, 306))
CHUNKS_HZ = 20
ROUNDS = 41


def run(rounds: int = ROUNDS) -> list[Row]:
    """In a process of its own whose BLAS has one thread, as the daemon gives its workers."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.cleaning", str(rounds)],
        capture_output=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return msgspec.json.decode(result.stdout, type=list[Row])


def _stages(sfreq: int, n: int) -> dict[str, Callable[[NDArray[np.float32]], object]]:
    names = tuple(f"{i}" for i in range(n))
    rng = np.random.default_rng(1)
    moved = rng.standard_normal((sfreq // CHUNKS_HZ, 3))
    motion = MotionRegression(sfreq, n)
    for _ in range(10 * CHUNKS_HZ):
        motion.push(rng.standard_normal((len(moved), n)).astype(np.float32), moved)

    def chain(config: ChainConfig) -> Callable[[NDArray[np.float32]], object]:
        return Chain(config, sfreq, names, design=design).push

    band = ChainConfig(dc_hz=0.1, l_freq=1, h_freq=100, notch=50, harmonics=2)
    return {
        "average reference": chain(ChainConfig(reference=Reference("average"))),
        "median reference": chain(ChainConfig(reference=Reference("median"))),
        "constant, band, mains": chain(band),
        "resampler to 200 Hz": chain(ChainConfig(resample_hz=200)),
        "motion, 39 weights": lambda rows: motion.push(rows, moved),
        "eyes, 2 EOG": Regression((0, 1), rng.standard_normal((2, n))).apply,
        "components, 3 removed": Projection(
            rng.standard_normal((3, n)), rng.standard_normal((3, n))
        ).apply,
    }


def _rows(rounds: int) -> list[Row]:
    rows = []
    for sfreq, n in CASES:
        chunk = np.random.default_rng(2).standard_normal((sfreq // CHUNKS_HZ, n))
        data = chunk.astype(np.float32)
        for stage, push in _stages(sfreq, n).items():
            (taken,) = alternate(lambda push=push, data=data: push(data), rounds=rounds)  # type: ignore[misc]
            part = taken * sfreq / len(data)
            rows.append(
                Row(
                    f"{stage}, {n} ch, {sfreq} Hz: {part:.2%} of a core",
                    taken * 1e6,
                    None,
                    "µs/chunk",
                    None,
                )
            )
    return rows


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_rows(int(sys.argv[1]))))
