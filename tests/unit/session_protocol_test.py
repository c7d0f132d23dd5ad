"""Protocol files: what is shipped, what is refused and with which words; where a session stands in one."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainforge_edge.core.errors import ConfigError, SessionError
from brainforge_edge.sessions.protocol import Threshold
from brainforge_edge.sessions.protocolfile import (
    MOST_BYTES,
    load_protocol,
    parse_protocol,
    read_protocol,
    shipped,
)
from brainforge_edge.sessions.schedule import schedule_of
from brainforge_edge.sessions.threshold import LEAST_VALUES, adapted, percentile
from tests.unit.session_material import S, phase, plan

HEAD = 'name = "x"\ntitle = { key = "t", text = "X" }\n'


def toml(**changes: object) -> str:
    """One phase, with these entries as they would be written."""
    usual = {
        "name": '"one"', "duration_s": 10, "instruction": '{ key = "i", text = "Sit." }',
    } | changes  # fmt: skip
    lines = [f"{key} = {value}" for key, value in usual.items() if value is not None]
    return "\n".join(["[[phase]]", *lines, ""])


RULE = {
    "feature": '"relaxation"', "percentile": 60, "window_s": 60, "every_s": 10, "step": 0.1,
    "start": 1.0, "least": 0.2, "most": 5.0,
}  # fmt: skip


def threshold(**changes: object) -> str:
    return "[threshold]\n" + "\n".join(f"{k} = {v}" for k, v in (RULE | changes).items())


def test_three_protocols_are_shipped() -> None:
    lengths = {name: schedule_of(load_protocol(name)).end_ns / S for name in shipped()}
    assert lengths == {"meditation": 540.0, "eyes-open-closed": 255.0, "p300": 630.0}
    for name in shipped():
        protocol = load_protocol(name)
        assert protocol.name == name
        for each in protocol.phase:
            assert each.instruction.key.startswith(f"protocol.{name}.")


@pytest.mark.parametrize(
    ("text", "path", "remedy"),
    [
        (HEAD + toml(duration_s=0), "phase[0].duration_s is 0", "Correct"),
        (HEAD + toml(duration_s=-5), "phase[0].duration_s is -5", "Correct"),
        (HEAD + toml(duration_s=1e9), "phase[0].duration_s is 1e+09", "Correct"),
        (HEAD + toml(duration_s="inf"), "phase[0].duration_s is inf", "Correct"),
        (HEAD + toml(duration_s="nan"), "phase[0].duration_s is nan", "Correct"),
        (HEAD + toml(duration_s=10**400), "", ""),
        (HEAD + toml(duration_s='"long"'), "$.phase[0].duration_s", "docs/sessions.md"),
        (HEAD + toml(duration_s=None), "duration_s", "docs/sessions.md"),
        (HEAD + toml() + toml(), "phase[1].name is 'one'", "name of its own"),
        (HEAD + toml(name='"end"'), "phase[0].name", "Choose another"),
        (HEAD + toml(name='"One Two"'), "phase[0].name", "a-z"),
        (HEAD + toml(colour='"red"'), "colour", "docs/sessions.md"),
        (HEAD + "colour = 1\n" + toml(), "colour", "docs/sessions.md"),
        (HEAD + toml(timescale_s=3), "$.phase[0].timescale_s", "docs/sessions.md"),
        (HEAD + toml(instruction='{ key = "i", text = " " }'), "instruction.text", "one line"),
        (HEAD + toml(next='"two"', times=1), "phase[0].next is 'two'", "Name one of"),
        (HEAD + toml(next='"one"'), "phase[0].next leads back", "times"),
        (HEAD + toml(times=2), "phase[0].times is 2 without `next`", "next"),
        (HEAD + toml(next='"one"', times=100_000), "phase[0].times", "Correct"),
        (HEAD + toml(duration_s=80_000, next='"one"', times=5), "longer than", "Shorten"),
        (
            HEAD + toml(next='"three"') + toml(name='"two"') + toml(name='"three"'),
            "phase[1] 'two' never comes", "Delete it",
        ),
        (HEAD + toml(next='"end"') + toml(name='"two"'), "phase[1] 'two' never comes", "Delete"),
        (HEAD, "phase", "docs/sessions.md"),
        (HEAD + "phase = []", "phase stands 0 times", "[[phase]]"),
        (HEAD + "phase = [", "not TOML", "line"),
        ("x = " + "[" * 5000, "not TOML", "line"),
        (HEAD + "#" * MOST_BYTES, "64 KiB", "Shorten"),
        (HEAD + toml() + threshold(percentile=0), "threshold.percentile is 0", "Correct"),
        (HEAD + toml() + threshold(step=0), "threshold.step is 0", "Correct"),
        (HEAD + toml() + threshold(start=9), "threshold.start is 9", "Correct"),
        (HEAD + toml() + threshold(most=0.1), "threshold.most is 0.1", "Correct"),
        (HEAD + toml() + threshold(window_s="nan"), "threshold.window_s is nan", "Correct"),
    ],
)  # fmt: skip
def test_a_wrong_protocol_is_refused_with_its_place_and_what_to_do(
    text: str, path: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_protocol(text, "site.toml")
    assert refused.value.code == "config.bad_protocol"
    assert "site.toml" in refused.value.what
    assert path in refused.value.why
    assert remedy in refused.value.remedy


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=300))
def test_no_text_is_more_than_a_refusal(text: str) -> None:
    try:
        parse_protocol(HEAD + text, "x")
    except ConfigError as refused:
        assert refused.code == "config.bad_protocol"  # noqa: PT017 (most texts are no protocol)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name in ("bytes.toml", "none.toml", "."):
        with pytest.raises(ConfigError) as refused:
            read_protocol(tmp_path / name)
        assert refused.value.code == "config.bad_protocol"


def test_the_sites_own_protocol_comes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "p300.toml").write_text(HEAD + toml())
    assert load_protocol("p300", tmp_path).name == "x"
    assert load_protocol("meditation", tmp_path).name == "meditation"
    for name in ("sleep", "../p300", ""):
        with pytest.raises(SessionError) as refused:
            load_protocol(name, tmp_path)
        assert refused.value.code == "session.unknown_protocol"
        assert "meditation" in refused.value.remedy


def test_loops_in_loops_come_as_often_as_they_say() -> None:
    text = HEAD + toml(name='"a"') + toml(name='"b"', next='"b"', times=1)
    text += toml(name='"c"', next='"a"', times=1) + toml(name='"d"')
    names = [each.phase.name for each in schedule_of(parse_protocol(text, "x")).stretches]
    assert "".join(names) == "abbcabbcd"


def test_a_schedule_tells_the_phase_and_what_comes_next() -> None:
    schedule = schedule_of(plan())
    first = schedule.at(0)
    assert first is not None
    assert (first.phase.name, first.left_ns, first.next and first.next.name) == (
        "one",
        10 * S,
        "two",
    )
    second = schedule.at(10 * S)
    assert second is not None
    assert (second.phase.name, second.since_ns, second.number) == ("two", 0, 1)
    last = schedule.at(60 * S - 1)
    assert last is not None
    assert (last.phase.name, last.left_ns, last.next) == ("three", 1, None)
    assert schedule.at(60 * S) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.floats(0.5, 100), min_size=1, max_size=8),
    st.one_of(st.none(), st.floats(1, 800)),
    st.floats(-1, 900),
)
def test_a_schedule_has_no_holes(durations: list[float], limit: float | None, at_s: float) -> None:
    protocol = plan(*(phase(f"p{n}", each) for n, each in enumerate(durations)))
    schedule = schedule_of(protocol, limit)
    begins = [each.begin_ns for each in schedule.stretches]
    ends = [each.end_ns for each in schedule.stretches]
    assert begins == [0, *ends[:-1]]
    whole = sum(round(each * S) for each in durations)
    assert schedule.end_ns == (whole if limit is None else min(whole, round(limit * S)))
    here = schedule.at(round(at_s * S))
    assert (here is None) is (round(at_s * S) >= schedule.end_ns)
    if here is not None:
        assert here.since_ns + here.left_ns == ends[here.number] - begins[here.number]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=50),
    st.floats(-10, 10),
    st.floats(1, 99),
)
def test_a_threshold_moves_by_a_step_at_most_and_stays_within_its_limits(
    values: list[float], now: float, percent: float
) -> None:
    rule = Threshold(
        feature="relaxation", percentile=percent, window_s=60, every_s=10, step=0.5, start=1,
        least=-2, most=3,
    )  # fmt: skip
    new = adapted(now, rule, values)
    assert rule.least <= new <= rule.most
    inside = min(max(now, rule.least), rule.most)
    assert abs(new - now) <= rule.step + 1e-9 or now != inside
    usable = [each for each in values if math.isfinite(each)]
    if len(usable) < LEAST_VALUES:
        assert new == inside


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0, 100))
def test_the_percentile_is_numpys(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(
        float(np.percentile(values, percent)), rel=1e-9, abs=1e-6
    )


def test_a_threshold_follows_what_is_reached_step_by_step() -> None:
    rule = Threshold(
        feature="relaxation", percentile=50, window_s=60, every_s=10, step=0.1, start=1,
        least=0, most=5,
    )  # fmt: skip
    now = rule.start
    for _ in range(30):
        now = adapted(now, rule, [2.0] * LEAST_VALUES)
    assert now == pytest.approx(2.0)
