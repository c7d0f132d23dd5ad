"""When a silent device is told to start again, and when it is given up: by the clock that is handed in."""

import pytest

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.silence import Silence, Step

MS = 1_000_000


def silence(silent_s: float = 2.0) -> Silence:
    made = Silence("dut", silent_s=silent_s, restart=(b"h", b"d"))
    made.expect(("eeg", "acc"), 0)
    return made


def steps(under_test: Silence, from_ms: int, to_ms: int) -> list[tuple[int, Step]]:
    found = [(at, under_test.look(at * MS)) for at in range(from_ms, to_ms, 10)]
    return [(at, step) for at, step in found if step is not None]


def test_half_of_the_time_after_the_last_packet_it_is_told_to_start_again() -> None:
    under_test = silence()
    under_test.heard("eeg", 500 * MS)
    under_test.heard("acc", 400 * MS)
    assert steps(under_test, 410, 2390) == [
        (1410, Step(b"h", is_first=True)),
        (1460, Step(b"d", is_first=False)),
    ]
    assert under_test.restarts == 1


def test_after_all_of_it_the_link_is_lost_and_the_silent_kind_is_named() -> None:
    under_test = silence()
    under_test.heard("eeg-0003", 9000 * MS)  # not one that must come
    steps(under_test, 0, 2000)
    with pytest.raises(DeviceError) as caught:
        under_test.look(2001 * MS)
    assert (caught.value.code, caught.value.transient) == ("device.silent", True)


def test_one_that_goes_on_is_left_alone() -> None:
    under_test = silence()
    assert len(steps(under_test, 0, 1200)) == 2
    for at in range(1200, 9000, 100):
        under_test.heard("eeg", at * MS)
        under_test.heard("acc", at * MS)
        assert under_test.look(at * MS) is None


def test_one_that_falls_silent_again_is_asked_only_after_half_a_minute() -> None:
    under_test = silence()
    steps(under_test, 0, 1200)
    for at_s, expected in ((10, 0), (40, 2)):
        under_test.expect(("eeg",), at_s * 1000 * MS)
        assert len(steps(under_test, at_s * 1000, at_s * 1000 + 1500)) == expected
    assert under_test.restarts == 2
