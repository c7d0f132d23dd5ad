"""What a reservoir learns that a linear readout of the present cannot; and its file."""

import hashlib

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.signal.readoutfile import MAGIC, MOST_BYTES, decoded, encoded
from brainforge_edge.signal.reservoir import (
    Readout,
    Reservoir,
    ReservoirConfig,
    fit,
    is_usable,
    network,
)

Floats = NDArray[np.float64]
FAST = ReservoirConfig(leak=1.0, radius=0.9, input_scale=0.3)


def taught(
    rows: Floats, targets: Floats, config: ReservoirConfig, *, seed: int = 1, ridge: float = 1e-8
) -> Readout:
    fixed = network(rows.shape[1], config, np.random.default_rng(seed))
    return fit(
        rows,
        targets,
        fixed,
        name="t",
        sfreq=100.0,
        ch_names=tuple(f"c{i}" for i in range(rows.shape[1])),
        outputs=tuple(f"o{i}" for i in range(targets.shape[1])),
        ridge=ridge,
    )


def nrmse(found: NDArray[np.floating], wanted: Floats) -> float:
    return float(np.sqrt(((found - wanted) ** 2).mean() / wanted.var()))


def linear(rows: Floats, targets: Floats, n: int) -> Floats:
    """Least squares on the present row alone, trained on the first n: what has no memory."""
    x = np.hstack([np.ones((len(rows), 1)), rows])
    found: Floats = x[n:] @ np.linalg.lstsq(x[:n], targets[:n], rcond=None)[0]
    return found


def recall(n: int, seed: int, delay: int) -> tuple[Floats, Floats]:
    u = np.random.default_rng(seed).uniform(-0.8, 0.8, (n, 1))
    return u, np.roll(u, delay, axis=0)


def narma(n: int, seed: int) -> tuple[Floats, Floats]:
    """NARMA-10 (Atiya & Parlos, IEEE Trans. Neural Netw. 11, 2000)."""
    u = np.random.default_rng(seed).uniform(0, 0.5, n)
    y = np.zeros(n)
    for t in range(10, n):
        y[t] = (
            0.3 * y[t - 1]
            + 0.05 * y[t - 1] * y[t - 10 : t].sum()
            + 1.5 * u[t - 10] * u[t - 1]
            + 0.1
        )
    return u[:, None], y[:, None]


def bursts(n: int, seed: int) -> tuple[Floats, Floats]:
    """100 Hz, two channels of slow noise; now and then 1 s of 10 Hz of half its size. 1 while it is there."""
    rng = np.random.default_rng(seed)
    noise = np.convolve(rng.standard_normal(2 * n + 40), np.ones(5) / 5, "same")[: 2 * n]
    x = noise.reshape(n, 2) / noise.std()
    is_there = np.zeros(n)
    for start in range(300, n - 300, 500):
        at = start + int(rng.integers(0, 200))
        is_there[at : at + 100] = 1
        sine = np.sin(2 * np.pi * 10 * np.arange(100) / 100 + rng.uniform(0, 6))
        x[at : at + 100] += 1.5 * sine[:, None]
    return x, is_there[:, None]


def auc(score: NDArray[np.floating], truth: Floats) -> float:
    rank = np.argsort(np.argsort(score.ravel())) + 1.0
    is_true = truth.ravel() > 0
    n, m = is_true.sum(), (~is_true).sum()
    return float((rank[is_true].sum() - n * (n + 1) / 2) / (n * m))


@pytest.mark.parametrize("seed", range(3))
def test_it_recalls_what_came_eight_rows_ago(seed: int) -> None:
    u, y = recall(3000, seed, 8)
    found = Reservoir(taught(u[:2000], y[:2000], FAST, seed=seed)).push(u)
    assert nrmse(found[2000:], y[2000:]) < 0.2
    assert nrmse(linear(u, y, 2000), y[2000:]) > 0.95


def test_it_remembers_twenty_rows_and_more() -> None:
    """Memory capacity: Σ of squared correlations with what came 1 to 60 rows ago (Jaeger, GMD Report 152, 2001)."""
    u, _ = recall(5000, 1, 0)
    past = np.hstack([np.roll(u, k, axis=0) for k in range(1, 61)])
    config = ReservoirConfig(leak=1.0, radius=0.95, input_scale=0.05, bias_scale=0.0)
    found = Reservoir(taught(u[:3000], past[:3000], config, ridge=1e-12)).push(u)[3000:]
    r = [np.corrcoef(found[:, k], past[3000:, k])[0, 1] for k in range(60)]
    assert float(np.square(r).sum()) > 20


@pytest.mark.parametrize("seed", range(2))
def test_it_follows_narma_10(seed: int) -> None:
    u, y = narma(5000, seed)
    found = Reservoir(taught(u[:3500], y[:3500], FAST, seed=seed)).push(u)
    assert nrmse(found[3500:], y[3500:]) < 0.5
    assert nrmse(linear(u, y, 3500), y[3500:]) > 0.8


@pytest.mark.parametrize("seed", range(2))
def test_it_finds_bursts_of_a_rhythm_in_noise(seed: int) -> None:
    x, there = bursts(12_000, seed)
    config = ReservoirConfig(leak=0.5, radius=0.95, input_scale=0.5)
    found = Reservoir(taught(x[:8000], there[:8000], config, seed=seed, ridge=1e-4)).push(x)
    assert auc(found[8000:], there[8000:]) > 0.9
    assert auc(linear(x, there, 8000), there[8000:]) < 0.7


def small() -> Readout:
    u, y = recall(900, 1, 2)
    return taught(u, y, ReservoirConfig(n_units=40, n_links=5))


def test_chunks_change_no_bit_and_a_gap_begins_anew() -> None:
    readout = small()
    u = recall(500, 2, 0)[0]
    whole = Reservoir(readout).push(u)
    for size in (1, 7, 333):
        live = Reservoir(readout)
        parts = [live.push(u[i : i + size]) for i in range(0, len(u), size)]
        assert np.array_equal(np.concatenate(parts), whole)
    live.gap()
    assert np.array_equal(live.push(u), whole)
    assert live.push(u[:0]).shape == (0, 1)


def test_bad_values_are_held_and_told_of() -> None:
    live = Reservoir(small())
    u = recall(500, 2, 0)[0]
    u[100:110] = np.nan
    u[200] = 1e300
    assert np.isfinite(live.push(u)).all()
    assert live.n_held == 11


def test_a_file_brings_back_the_same_outputs() -> None:
    readout = small()
    data = encoded(readout)
    assert encoded(readout) == data
    back = decoded(data, "r.bfres")
    u = recall(300, 3, 0)[0]
    assert np.array_equal(Reservoir(back).push(u), Reservoir(readout).push(u))
    assert (back.name, back.ch_names, back.outputs, back.sfreq) == ("t", ("c0",), ("o0",), 100.0)


def remade(data: bytes, **changes: object) -> bytes:
    """With a digest that fits: what only the checks behind it can find."""
    body = msgspec.msgpack.decode(data[len(MAGIC) + 32 :])
    assert set(changes) - {"more"} <= set(body)
    body = msgspec.msgpack.encode({**body, **changes})
    return MAGIC + hashlib.sha256(body).digest() + body


@pytest.mark.parametrize("size", [0, 7, 8, 39, 40, 41, 500, -1])
def test_a_file_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(ConfigError) as refused:
        decoded(encoded(small())[:size], "r.bfres")
    assert refused.value.code == "config.reservoir_file"
    assert "r.bfres" in str(refused.value)


def test_a_file_with_one_bit_changed_is_refused() -> None:
    data = encoded(small())
    for at in np.random.default_rng(1).integers(0, len(data), 50):
        hurt = bytearray(data)
        hurt[at] ^= 1 << int(at) % 8
        with pytest.raises(ConfigError, match="trained reservoir"):
            decoded(bytes(hurt), "r.bfres")


@pytest.mark.parametrize(
    "changes",
    [
        {"leak": 0.0},
        {"leak": float("nan")},
        {"sfreq": float("inf")},
        {"ch_names": ("a", "b")},
        {"outputs": ()},
        {"sd": [[1], b"\0\0\0\0"]},
        {"mean": [[1], b"\0\0\xc0\x7f"]},
        {"links": [[5, 40], b"\xff" * 800]},
        {"weights": [[5, 40], b"\xff" * 800]},
        {"inputs": [[-1, 40], b""]},
        {"inputs": [[1, 40, 1], b"\0" * 160]},
        {"inputs": [[40], b"\0" * 160]},
        {"inputs": [[10**9, 10**9], b""]},
        {"readout": [[42, 1], b"\0" * 167]},
        {"readout": [[41, 1], b"\0" * 164]},
        {"more": 1},
        {"name": 5},
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="trained reservoir"):
        decoded(remade(encoded(small()), **changes), "r.bfres")


def test_a_file_that_is_too_large_is_not_read_on() -> None:
    with pytest.raises(ConfigError, match="allowed are"):
        decoded(MAGIC + bytes(MOST_BYTES), "r.bfres")


def test_a_calibration_that_teaches_nothing_is_refused() -> None:
    u, y = recall(900, 1, 2)
    hurt = u.copy()
    hurt[5] = np.nan
    for rows, targets, why in (
        (u[:300], y[:300], "are needed"),
        (hurt, y, "no numbers"),
        (u * 0, y, "does not move"),
        (u, y[:-1], "targets of shape"),
        (u, np.full_like(y, np.nan), "are needed"),
        (np.hstack([u, u]), y, "for 1 inputs"),
    ):
        fixed = network(1, ReservoirConfig(n_units=100), np.random.default_rng(1))
        with pytest.raises(ValueError, match=why):
            fit(rows, targets, fixed, name="t", sfreq=1.0, ch_names=("a",), outputs=("o",))
    with pytest.raises(ValueError, match="rows of shape"):
        Reservoir(small()).push(np.zeros((3, 2)))
    for config in (ReservoirConfig(n_units=1), ReservoirConfig(leak=0), ReservoirConfig(radius=3)):
        with pytest.raises(ValueError, match="are possible"):
            network(1, config, np.random.default_rng(1))
    assert is_usable(small())
