"""The demo's account finds every kind of tampering."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.cli.account import Evidence, NamedGap, Span, account, verdict

GOOD = Evidence(
    stream_id="helmet-mag",
    emitted=10_000,
    dropped=0,
    acquired=10_000,
    recorded=[Span(0, 0, 4_000), Span(0, 4_000, 6_000)],
    stored=[Span(0, 4_000, 6_000), Span(0, 0, 4_000)],
    gaps=[],
    recorded_digest="aa",
    stored_digest="aa",
    source_of_recorded_digest="aa",
    source_of_stored_digest="aa",
)


def test_a_whole_recording_adds_up() -> None:
    result = account(GOOD)
    assert result.differences == ()
    assert (result.emitted, result.acquired, result.recorded, result.stored) == (10_000,) * 4
    assert (result.gaps, result.lost, result.duplicates, result.digest_equal) == (0, 0, 0, True)
    assert verdict([result]) == (
        "Every sample is accounted for: 10000 emitted, recorded and stored, 0 lost."
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            {"acquired": 9_999}, "emitted 10000 is not acquired 9999", id="silent decoder"
        ),
        pytest.param(
            {"stored": [Span(0, 0, 9_999)]}, "recorded 10000 is not stored 9999", id="cloud"
        ),
        pytest.param({"recorded": [Span(0, 0, 9_000)]}, "is not recorded 9000", id="recorder"),
        pytest.param(
            {"stored": [Span(0, 0, 10_000), Span(0, 500, 10)]},
            "10 samples are stored twice",
            id="dup",
        ),
        pytest.param(
            {"recorded": [Span(0, 0, 10_000), Span(0, 0, 1)]},
            "1 samples are recorded twice",
            id="2x",
        ),
        pytest.param({"stored_digest": "bb"}, "stored samples differ from those emitted", id="bit"),
        pytest.param({"recorded_digest": "bb"}, "recorded samples differ from those", id="disk"),
        pytest.param({"emitted": 0}, "the device emitted nothing", id="nothing"),
    ],
)
def test_every_tampering_is_named(changes: dict[str, object], said: str) -> None:
    result = account(msgspec.structs.replace(GOOD, **changes))
    assert any(said in difference for difference in result.differences), result.differences
    assert said in verdict([result])


def _with_gap(cause: str, *, dropped: int = 0, cut: int = 0) -> Evidence:
    spans = [Span(0, 0, 5_000), Span(0, 5_003, 4_997)]
    return msgspec.structs.replace(
        GOOD,
        acquired=9_997,
        recorded=spans,
        stored=spans,
        gaps=[NamedGap(3, 0, cause)],
        dropped=dropped,
        cut=cut,
    )


def test_a_gap_that_the_decoder_made_is_lost_even_when_it_is_named() -> None:
    result = account(_with_gap("link"))
    assert (result.gaps, result.lost) == (3, 3)
    assert "3 in gaps with the cause 'link'" in verdict([result])


def test_samples_that_the_device_dropped_for_a_slow_reader_are_lost_once() -> None:
    result = account(_with_gap("device", dropped=3))
    assert result.lost == 3
    assert "3 dropped by the device" in verdict([result])


def test_a_cut_that_was_asked_for_is_a_gap_and_no_loss() -> None:
    result = account(_with_gap("link", cut=3))
    assert (result.gaps, result.lost, result.differences) == (3, 0, ())


def test_no_stream_at_all_is_no_success() -> None:
    assert "no stream was seen" in verdict([])


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(1, 30)).map(
            lambda t: Span(*t)
        ),
        max_size=12,
    )
)
def test_coverage_counts_every_sample_once_and_the_rest_as_duplicates(spans: list[Span]) -> None:
    rows = [(span.incarnation, seq) for span in spans for seq in range(span.first, span.end)]
    result = account(msgspec.structs.replace(GOOD, stored=spans))
    assert result.stored == len(set(rows))
    assert result.duplicates == len(rows) - len(set(rows))
