"""Which round of a short counter a packet belongs to, told by when it came."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.devices.packet_index import PacketIndex

SECOND_NS = 1_000_000_000
BASE_NS = 10**15


class Counter(NamedTuple):
    modulus: int
    sfreq: float  # packets a second

    @property
    def period_ns(self) -> float:
        return SECOND_NS / self.sfreq

    @property
    def round_s(self) -> float:
        return self.modulus / self.sfreq


GANGLION = Counter(100, 100.0)
FREEEEG = Counter(256, 512.0)
ATHENA = Counter(256, 64.0)
COUNTERS = (GANGLION, FREEEEG, ATHENA)


class Sender:
    """Makes packets at its own rate; `place` hands one over, `late_s` after it was made."""

    def __init__(self, counter: Counter, *, rate: float = 1.0) -> None:
        self.index = PacketIndex(counter.modulus, counter.period_ns)
        self.counter = counter
        self._period_ns = counter.period_ns / rate
        self._now_ns = 0

    def made_ns(self, number: int) -> int:
        return BASE_NS + round(number * self._period_ns)

    def place(self, number: int, late_s: float = 0.0) -> int | None:
        arrived_ns = max(self._now_ns, self.made_ns(number) + round(late_s * SECOND_NS))
        self._now_ns = arrived_ns
        return self.index.place(number % self.counter.modulus, arrived_ns)

    def together(self, numbers: range, at_number: float) -> list[int | None]:
        """All at once, when `at_number` is made."""
        self._now_ns = max(self._now_ns, BASE_NS + round(at_number * self._period_ns))
        return [self.index.place(n % self.counter.modulus, self._now_ns) for n in numbers]


@pytest.fixture(params=COUNTERS, ids=str)
def counter(request: pytest.FixtureRequest) -> Counter:
    found: Counter = request.param
    return found


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.85])
def test_a_link_that_stalls_within_a_round_and_hands_all_over_has_lost_nothing(
    counter: Counter, share: float
) -> None:
    sender = Sender(counter)
    end = 3 * counter.modulus
    for number in range(end):
        assert sender.place(number) == number
    stalled = range(end, end + round(share * counter.modulus))
    assert sender.together(stalled, stalled.stop) == list(stalled)
    for number in range(stalled.stop, stalled.stop + counter.modulus):
        assert sender.place(number) == number
        assert not sender.index.is_ambiguous


@pytest.mark.parametrize("rounds", [0.2, 0.5, 0.9, 1.0, 1.3, 2.0, 5.9])
def test_what_is_lost_is_counted_by_arrivals(counter: Counter, rounds: float) -> None:
    sender = Sender(counter)
    for number in range(200):
        sender.place(number)
    after = 200 + round(rounds * counter.modulus)
    assert sender.place(after) == after
    might_be_late = counter.round_s < 2.0
    assert sender.index.is_ambiguous == (rounds >= 1 and might_be_late)


def test_a_late_packet_before_the_loss_does_not_hide_it() -> None:
    sender = Sender(GANGLION)
    for number in range(200):
        sender.place(number)
    assert sender.place(200, late_s=0.4) == 200
    assert sender.place(200 + 130) == 330
    assert sender.index.is_ambiguous


def test_losses_within_what_is_handed_over_together_are_counted() -> None:
    sender = Sender(GANGLION)
    for number in range(200):
        sender.place(number)
    assert sender.together(range(200, 205), 285.0) == list(range(200, 205))
    assert sender.together(range(245, 250), 285.0) == list(range(245, 250))
    assert sender.together(range(280, 286), 285.0) == list(range(280, 286))


@pytest.mark.parametrize("rate", [0.98, 0.998, 1.002, 1.02])
def test_a_board_off_its_nominal_rate_is_followed_for_an_hour(rate: float) -> None:
    sender = Sender(FREEEEG, rate=rate)
    for number in range(0, 3600 * 512, 16):  # as a port hands them over
        assert sender.together(range(number, number + 16), number + 16)[-1] == number + 15
    assert sender.index.restarts == 0
    stalled = range(3600 * 512, 3600 * 512 + 200)
    assert sender.together(stalled, stalled.stop) == list(stalled)


@given(
    st.sampled_from(COUNTERS),
    st.floats(0.99, 1.01),
    st.lists(
        st.tuples(
            st.sampled_from(["steady", "stalled", "lost", "stalled and lost"]),
            st.floats(0.0, 0.85),  # of a round
            st.floats(0.0, 0.04),  # jitter, in seconds
        ),
        max_size=12,
    ),
)
def test_any_mix_of_stalls_and_losses_within_a_round_is_exact(
    counter: Counter, rate: float, story: list[tuple[str, float, float]]
) -> None:
    sender = Sender(counter, rate=rate)
    number = 0
    for number in range(counter.modulus):
        assert sender.place(number) == number
    number += 1
    for what, share, jitter in story:
        n = round(share * counter.modulus)
        if what == "lost":
            number += n
        elif what.startswith("stalled"):
            step = 3 if what == "stalled and lost" else 1
            stalled = range(number, number + n, step)
            assert sender.together(stalled, number + n) == list(stalled)
            number += n
        for steady in range(number, number + counter.modulus):
            late_s = jitter * (steady % 3) / 2
            assert sender.place(steady, late_s) == steady
            assert not sender.index.is_ambiguous
        number += counter.modulus


def test_a_stall_of_more_than_a_round_says_that_it_may_be_one() -> None:
    sender = Sender(GANGLION)
    for number in range(200):
        sender.place(number)
    first, *rest = sender.together(range(200, 350), 350.0)
    assert first == 300  # it cannot be told from a loss of just this much
    assert rest == list(range(301, 450))


def test_which_is_ambiguous_at_its_first_packet_only() -> None:
    sender = Sender(GANGLION)
    for number in range(200):
        sender.place(number)
    sender.together(range(200, 201), 350.0)
    assert sender.index.is_ambiguous
    sender.together(range(201, 202), 350.0)
    assert not sender.index.is_ambiguous


def test_a_flipped_bit_is_left_out_and_a_board_that_counts_anew_is_followed() -> None:
    sender = Sender(GANGLION)
    for number in range(250):
        sender.place(number)
    arrived = sender.made_ns(250)
    assert sender.index.place(99, arrived) is None
    assert sender.place(250) == 250
    anew = [sender.index.place(raw, sender.made_ns(251 + raw)) for raw in range(4)]
    assert anew == [None, None, 2, 3]
    assert sender.index.restarts == 1


def test_a_late_or_repeated_packet_keeps_its_number() -> None:
    sender = Sender(GANGLION)
    for number in range(150):
        sender.place(number)
    assert [sender.place(number) for number in (149, 140, 118)] == [149, 140, 118]
    assert sender.place(150) == 150
