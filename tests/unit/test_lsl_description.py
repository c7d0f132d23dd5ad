"""What a stream says of itself becomes channels; whatever it says, nothing is raised."""

from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.devices.lsl_description import MAX_NAME, describe, row_text, si


def _xml(*channels: tuple[str, str, str]) -> str:
    inside = "".join(
        f"<channel><label>{escape(label)}</label><type>{escape(kind)}</type>"
        f"<unit>{escape(unit)}</unit></channel>"
        for label, kind, unit in channels
    )
    return f'<?xml version="1.0"?><info><desc><channels>{inside}</channels></desc></info>'


def test_labels_types_and_units_become_channels_in_si() -> None:
    found = describe(
        _xml(("Fz", "EEG", "microvolts"), ("A1", "MAG", "fT"), ("X", "Gaze", "px")), 3, kind="EEG"
    )
    assert found.has_names
    assert [(c.name, c.type, c.unit, c.scale) for c in found.channels] == [
        ("Fz", "eeg", "V", 1e-6),
        ("A1", "mag", "T", 1e-15),
        ("X", "misc", "px", 1.0),
    ]


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<info><desc>",
        _xml(("Fz", "EEG", "uV")),  # fewer than there are
        _xml(("Fz", "EEG", "uV"), ("Fz", "EEG", "uV")),  # twice the same name
        _xml(("", "EEG", "uV"), ("Cz", "EEG", "uV")),
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><info><desc>&a;</desc></info>',
    ],
)
def test_names_that_do_not_fit_are_replaced_never_guessed(xml: str) -> None:
    found = describe(xml, 2, kind="EEG", unit="uV")
    assert not found.has_names
    assert [(c.name, c.type, c.scale) for c in found.channels] == [
        ("EEG001", "eeg", 1e-6),
        ("EEG002", "eeg", 1e-6),
    ]


@pytest.mark.parametrize(
    ("unit", "meant"),
    [
        ("uV", ("V", 1e-6)),
        ("µV", ("V", 1e-6)),
        ("Microvolts", ("V", 1e-6)),
        ("V", ("V", 1.0)),
        ("mV", ("V", 1e-3)),
        ("pT", ("T", 1e-12)),
        ("T/m", ("T/m", 1.0)),
        ("", ("1", 1.0)),
        ("degrees Celsius of the room", ("degrees Celsius ", 1.0)),
    ],
)
def test_units_as_people_write_them(unit: str, meant: tuple[str, float]) -> None:
    assert si(unit) == meant


@given(
    xml=st.one_of(
        st.text(max_size=300),
        st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=4).map(
            lambda channels: _xml(*channels)
        ),
        st.text(alphabet="<>/&;infodescchanellabel ", max_size=200),
    ),
    n=st.integers(1, 5),
    kind=st.text(max_size=20),
    unit=st.text(max_size=20),
)
def test_any_description_gives_as_many_usable_channels_as_there_are(
    xml: str, n: int, kind: str, unit: str
) -> None:
    channels = describe(xml, n, kind=kind, unit=unit).channels
    assert len(channels) == n
    assert len({channel.name for channel in channels}) == n
    for channel in channels:
        assert 0 < len(channel.name) <= MAX_NAME
        assert channel.name.isprintable()
        assert channel.scale > 0


def test_a_row_of_an_irregular_stream_is_readable_and_exact() -> None:
    assert row_text(["trigger"], [5.0]) == "5"
    assert row_text(["x", "y"], [0.1, float("nan")]) == "x=0.1 y=nan"
    assert float(row_text(["x"], [0.1 + 0.2])) == 0.1 + 0.2
