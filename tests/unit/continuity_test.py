"""What joins blocks: gaps named, repeats dropped, incarnations kept for the same proof."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.acquisition.continuity import Continuity, within
from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock

DT_NS = 1_000_000


def block(
    seq: int,
    n: int = 8,
    *,
    incarnation: int = 0,
    gap: Gap | None = None,
    t_first_ns: int | None = None,
) -> SampleBlock:
    data = np.arange(seq, seq + n, dtype=np.int32).reshape(n, 1)
    flags = BlockFlag.GAP_BEFORE if gap else BlockFlag(0)
    t = seq * DT_NS if t_first_ns is None else t_first_ns
    return SampleBlock("s", incarnation, seq, t, data, flags, gap)


class Numbers:
    """Lasting incarnations as the log gives them: the same for the same proof."""

    def __init__(self) -> None:
        self._next = count(1)
        self._known: dict[str, int] = {}

    def __call__(self, proof: str) -> int:
        if not proof:
            return next(self._next)
        return self._known.setdefault(proof, next(self._next))


@pytest.fixture
def continuity() -> Continuity:
    return Continuity(1000.0, Numbers())


def push(continuity: Continuity, given_block: SampleBlock, proof: str = "boot:1") -> SampleBlock:
    admitted, _ = continuity.admit(given_block, proof)
    assert admitted is not None
    continuity.kept(admitted)
    return admitted


def test_the_first_block_is_first_and_has_no_gap(continuity: Continuity) -> None:
    admitted = push(continuity, block(5_000))
    assert admitted.flags & BlockFlag.FIRST
    assert admitted.gap is None
    assert admitted.incarnation == 1


def test_a_gap_that_the_driver_named_keeps_its_name(continuity: Continuity) -> None:
    push(continuity, block(0))
    named = Gap(8, 0, GapBasis.DEVICE_INDEX, GapCause.DEVICE)
    assert push(continuity, block(16, gap=named)).gap == named


def test_a_jump_over_a_reconnect_is_a_gap_of_exact_size(continuity: Continuity) -> None:
    push(continuity, block(0))
    continuity.reconnected()
    admitted = push(continuity, block(1_008))
    assert admitted.incarnation == 1
    assert admitted.gap == Gap(1_000, 0, GapBasis.DEVICE_INDEX, GapCause.LINK)


def test_a_new_proof_starts_an_incarnation_with_a_gap_by_the_clock(continuity: Continuity) -> None:
    push(continuity, block(0))
    continuity.reconnected()
    admitted = push(continuity, block(0, t_first_ns=108 * DT_NS), "boot:2")
    assert admitted.incarnation == 2
    assert admitted.flags & BlockFlag.FIRST
    assert admitted.gap is not None
    assert admitted.gap.basis is GapBasis.CLOCK
    assert admitted.gap.n == 100
    assert admitted.gap.plus_minus > 0


def test_rows_that_come_twice_are_dropped_and_counted(continuity: Continuity) -> None:
    push(continuity, block(0))
    again, repeated = continuity.admit(block(0), "boot:1")
    assert (again, repeated) == (None, 8)
    part, repeated = continuity.admit(block(4), "boot:1")
    assert part is not None
    assert repeated == 4
    assert (part.seq, part.data[0, 0], part.t_first_ns, part.gap) == (8, 8, 8 * DT_NS, None)


def test_a_block_the_box_could_not_keep_becomes_the_boxs_own_gap(continuity: Continuity) -> None:
    push(continuity, block(0))
    admitted, _ = continuity.admit(block(8), "boot:1")
    assert admitted is not None
    continuity.box_dropped()
    after = push(continuity, block(16))
    assert after.gap == Gap(8, 0, GapBasis.DEVICE_INDEX, GapCause.BOX)


def test_a_restarted_process_goes_on_from_the_last_row_of_its_ring(continuity: Continuity) -> None:
    numbers = Numbers()
    assert numbers("boot:1") == 1
    resumed = Continuity(1000.0, numbers)
    resumed.resume(incarnation=1, next_seq=100, t_next_ns=100 * DT_NS)
    admitted = push(resumed, block(150))
    assert admitted.gap == Gap(50, 0, GapBasis.DEVICE_INDEX, GapCause.BOX)
    assert not admitted.flags & BlockFlag.FIRST


@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.integers(0, 50), st.booleans(), st.booleans()), max_size=60
    )
)
def test_pushed_rows_and_named_gaps_add_up_to_the_devices_index(
    steps: list[tuple[int, int, bool, bool]],
) -> None:
    """Whatever is lost on the way or in the box, rows + gaps = index, and rows keep their numbers."""
    continuity = Continuity(1000.0, Numbers())
    push(continuity, block(0))
    index, rows, gaps = 8, 8, 0
    for n, lost, is_dropped, is_reconnect in steps:
        if is_reconnect:
            continuity.reconnected()
        index += lost
        named = Gap(lost, 0, GapBasis.DEVICE_INDEX) if lost and not is_reconnect else None
        admitted, repeated = continuity.admit(block(index, n, gap=named), "boot:1")
        index += n
        assert admitted is not None
        assert repeated == 0
        assert admitted.data[0, 0] == admitted.seq
        if is_dropped:
            continuity.box_dropped()
            continue
        continuity.kept(admitted)
        rows += n
        gaps += admitted.gap.n if admitted.gap else 0
        assert rows + gaps == index


def test_a_block_that_simply_goes_on_passes_without_a_gap_and_with_its_lasting_number(
    continuity: Continuity,
) -> None:
    assert not continuity.knows(0)
    push(continuity, block(0))
    assert continuity.knows(0)  # no proof is needed any more

    given_block = block(8)
    admitted = push(continuity, given_block, proof="")

    assert (admitted.incarnation, admitted.seq, admitted.gap) == (1, 8, None)
    assert admitted.flags == BlockFlag(0)
    assert admitted.data is given_block.data


GAP = Gap(5000, 3, GapBasis.DEVICE_INDEX, GapCause.LINK)


@pytest.mark.parametrize(
    ("begins_ms", "n"), [(0, 5000), (5000, 5000), (7500, 2500), (10_000, 0), (11_000, 0)]
)
def test_what_was_missing_before_a_recording_is_no_gap_of_it(begins_ms: int, n: int) -> None:
    given_block = block(10_000, gap=GAP)
    first = within(given_block, begins_ms * DT_NS, 1000.0)
    assert first.data is given_block.data
    assert bool(first.flags & BlockFlag.GAP_BEFORE) == bool(n)
    if n in {0, 5000}:
        assert first.gap == (GAP if n else None)
    else:
        assert first.gap == Gap(n, 21, GapBasis.CLOCK, GapCause.LINK)


def test_a_link_made_anew_must_prove_its_incarnation_again(continuity: Continuity) -> None:
    push(continuity, block(0))
    continuity.reconnected()
    assert not continuity.knows(0)
