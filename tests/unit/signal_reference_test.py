"""References and repairs against plain numpy, their order, and what is refused."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError, ExitStatus
from brainforge_edge.signal.reference import Montage, Reference, Repair
from tests.unit.signal_material import noise

NAMES = ("Fz", "Cz", "Pz", "M1", "M2")
AVERAGE = Reference("average")
MEDIAN = Reference("median")
MASTOIDS = Reference("channels", channels=("M1", "M2"))
BIPOLAR = Reference("bipolar", pairs=(("Fz", "Cz"), ("Cz", "Pz")))
REPAIR = Repair("Pz", {"Cz": 0.75, "Fz": 0.25})


def rows() -> NDArray[np.float64]:
    return noise(2, 250, 5).astype(np.float64) + 1000


def test_the_common_average_is_the_mean_of_all_channels() -> None:
    x = rows()
    np.testing.assert_allclose(Montage(NAMES, AVERAGE).apply(x), x - x.mean(axis=1, keepdims=True))


@pytest.mark.parametrize("n", [4, 5])
def test_the_median_is_numpys(n: int) -> None:
    x = rows()[:, :n]
    wanted = x - np.median(x, axis=1, keepdims=True)
    np.testing.assert_allclose(Montage(NAMES[:n], MEDIAN).apply(x), wanted)


def test_named_channels_are_averaged() -> None:
    x = rows()
    wanted = x - x[:, 3:].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(Montage(NAMES, MASTOIDS).apply(x), wanted)


def test_a_bipolar_channel_is_the_first_less_the_second_and_is_called_so() -> None:
    x = rows()
    montage = Montage(NAMES, BIPOLAR)
    assert montage.names == ("Fz-Cz", "Cz-Pz")
    np.testing.assert_allclose(montage.apply(x), x[:, :2] - x[:, 1:3])


def test_without_a_reference_only_the_bad_channel_changes() -> None:
    x = rows()
    found = Montage(NAMES, repairs=(REPAIR,)).apply(x)
    np.testing.assert_allclose(found[:, 2], 0.75 * x[:, 1] + 0.25 * x[:, 0])
    assert np.array_equal(found[:, [0, 1, 3, 4]], x[:, [0, 1, 3, 4]])


@pytest.mark.parametrize("reference", [AVERAGE, MEDIAN])
def test_repair_comes_before_the_reference_and_the_filling_does_not_count_in_it(
    reference: Reference,
) -> None:
    x = rows()
    x[:, 2] = 1e9
    found = Montage(NAMES, reference, (REPAIR,)).apply(x)
    good = x[:, [0, 1, 3, 4]]
    common = good.mean(axis=1) if reference is AVERAGE else np.median(good, axis=1)
    np.testing.assert_allclose(found[:, 0], x[:, 0] - common, atol=1e-9)
    np.testing.assert_allclose(found[:, 2], 0.75 * x[:, 1] + 0.25 * x[:, 0] - common, atol=1e-9)


def test_a_bipolar_channel_takes_the_repaired_one() -> None:
    x = rows()
    x[:, 2] = np.nan
    found = Montage(NAMES, BIPOLAR, (REPAIR,)).apply(x)
    np.testing.assert_allclose(found[:, 1], 0.25 * (x[:, 1] - x[:, 0]), atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e308])
@pytest.mark.parametrize("reference", [AVERAGE, MEDIAN])
def test_a_value_that_is_no_number_reaches_no_other_channel(
    reference: Reference, bad: float
) -> None:
    x = rows()
    x[10:20, 1] = bad
    found = Montage(NAMES, reference).apply(x)
    good = x[10:20][:, [0, 2, 3, 4]]
    common = good.mean(axis=1) if reference is AVERAGE else np.median(good, axis=1)
    np.testing.assert_allclose(found[10:20, 0], x[10:20, 0] - common, atol=1e-9)
    assert np.isnan(found[10:20, 1]).all()
    x[30] = bad
    assert np.isnan(Montage(NAMES, reference).apply(x)[30]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reference", [AVERAGE, MEDIAN, MASTOIDS, BIPOLAR])
def test_chunks_change_no_bit_and_what_is_given_stays(
    reference: Reference, dtype: type[np.floating]
) -> None:
    x = rows().astype(dtype)
    before = x.copy()
    montage = Montage(NAMES, reference, (REPAIR,))
    whole = montage.apply(x)
    assert whole.dtype == dtype
    for size in (1, 7, 133):
        parts = [montage.apply(x[i : i + size]) for i in range(0, len(x), size)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    ("reference", "repairs", "key"),
    [
        (Reference("channels", channels=("Oz",)), (), "reference.channels"),
        (Reference("channels"), (), "reference.channels"),
        (Reference("channels", channels=("Pz",)), (REPAIR,), "reference.channels"),
        (Reference("bipolar"), (), "reference.pairs"),
        (Reference("bipolar", pairs=(("Fz", "Fz"),)), (), "reference.pairs"),
        (Reference("bipolar", pairs=(("Fz", "Oz"),)), (), "reference.pairs"),
        (Reference("average", channels=("Fz",)), (), "reference.channels"),
        (Reference("none", pairs=(("Fz", "Cz"),)), (), "reference.pairs"),
        (AVERAGE, (Repair("Oz", {"Fz": 1.0}),), "repair.channel"),
        (AVERAGE, (REPAIR, REPAIR), "repair.channel"),
        (AVERAGE, (Repair("Fz", {}),), "repair.neighbours"),
        (AVERAGE, (Repair("Fz", {"Fz": 1.0}),), "repair.neighbours"),
        (AVERAGE, (Repair("Fz", {"Oz": 1.0}),), "repair.neighbours"),
        (AVERAGE, (Repair("Fz", {"Cz": float("nan")}),), "repair.neighbours"),
        (AVERAGE, tuple(Repair(name, {"M2": 1.0}) for name in NAMES[:4]), "reference.kind"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key_with_a_remedy(
    reference: Reference, repairs: tuple[Repair, ...], key: str
) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        Montage(NAMES, reference, repairs)
    assert caught.value.code == "config.montage"
    assert caught.value.exit_status == ExitStatus.CONFIG
    assert caught.value.facts["key"] == key
    assert caught.value.remedy


def test_names_that_are_the_same_are_refused() -> None:
    with pytest.raises(ConfigError, match="channels"):
        Montage(("Fz", "Fz"))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of shape"):
        Montage(NAMES).apply(np.zeros((3, 4)))
