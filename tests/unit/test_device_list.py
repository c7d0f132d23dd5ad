"""How what was seen stands to what is configured and known, and what changes while one watches."""

from typing import Any

import pytest

from brainforge_edge.cli.devices.table import ago
from brainforge_edge.cli.devices.watch import Watch
from brainforge_edge.devices.sighting import Configured, Sighting, settle

NOW = 1_790_000_000_000_000_000


def seen(link: str, address: str, *, kind: str = "", identity: str = "", **more: Any) -> Sighting:
    alive = more.pop("alive", "advertises")
    return Sighting(
        link=link, address=address, kind=kind, basis="", identity=identity, alive=alive, **more
    )


def row_of(identity: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": "muse", "link": "ble", "name": "", "pairing": "known"}
    row |= {"alias": "", "who_am_i": "Muse", "address": "", "last_seen_ns": NOW - 7}
    return row | {"identity": identity} | more


def states(rows: list[Sighting]) -> dict[str, tuple[str, str]]:
    return {row.address: (row.state, row.device) for row in rows}


def test_each_row_says_whether_it_is_configured_known_new_or_in_use() -> None:
    configured = [
        Configured(name="m1", kind="muse", settings={"address": "AA:01"}, state="streaming"),
        Configured(name="m2", kind="muse", settings={"name": "Muse-2"}, state="searching"),
        Configured(name="gaze", kind="lsl", settings={"stream": "EyeLink", "type": "Gaze"}),
        Configured(name="hat", kind="accel_hat", settings={"port": "tcp://10.0.0.7:1"}),
    ]
    rows = settle(
        [
            seen("ble", "AA:03", kind="muse", identity="muse:AA:03"),
            seen("ble", "AA:04", kind="muse", identity="muse:AA:04"),
            seen("ble", "aa:01", kind="muse", identity="muse:AA:01"),
            seen("ble", "AA:02", kind="muse", identity="muse:AA:02", name="Muse-2"),
            seen("lsl", "lab", kind="lsl", name="EyeLink", detail={"type": "Gaze"}),
            seen("lsl", "lab2", kind="lsl", name="EyeLink", detail={"type": "Pupil"}),
            seen("tcp", "tcp://10.0.0.7:1", kind="accel_hat"),
        ],
        configured,
        [row_of("muse:AA:03", alias="the blue one"), row_of("muse:AA:09", address="AA:09")],
        utc_ns=NOW,
    )
    assert states(rows) == {
        "aa:01": ("in use", "m1"),
        "AA:02": ("configured", "m2"),
        "lab": ("configured", "gaze"),
        "tcp://10.0.0.7:1": ("configured", "hat"),
        "AA:03": ("known", ""),
        "AA:04": ("new", ""),
        "lab2": ("new", ""),
        "AA:09": ("gone", ""),
    }
    by_address = {row.address: row for row in rows}
    assert by_address["AA:03"].alias == "the blue one"
    assert by_address["AA:03"].last_seen_ns == NOW
    assert by_address["AA:09"].last_seen_ns == NOW - 7


def test_a_device_that_is_connected_need_not_be_heard_to_be_in_the_list() -> None:
    (row,) = settle(
        [],
        [
            Configured(
                name="m1",
                kind="muse",
                state="streaming",
                identity="muse:AA:01",
                status={"rssi_dbm": -61, "address": "AA:01"},
            )
        ],
        [row_of("muse:AA:01", pairing="bound", name="m1")],
        utc_ns=NOW,
    )
    assert (row.state, row.device, row.rssi_dbm, row.address) == ("in use", "m1", -61, "AA:01")
    assert (row.alive, row.link, row.last_seen_ns) == ("streams", "ble", NOW)


def test_one_that_is_proven_to_be_another_is_not_taken_for_the_configured_one() -> None:
    configured = [Configured(name="m1", kind="muse", bound="muse:AA:01")]
    rows = settle([seen("ble", "AA:02", kind="muse", identity="muse:AA:02")], configured, [],
                  utc_ns=NOW)  # fmt: skip
    assert states(rows) == {"AA:02": ("new", ""), "": ("gone", "m1")}


@pytest.mark.parametrize(
    ("code", "word", "state"),
    [
        ("device.new_identity", "refused: ", "configured"),
        ("device.wrong_device", "refused: ", "configured"),
        ("device.no_answer", "no answer: ", "gone"),
    ],
)
def test_a_configured_device_that_is_not_there_tells_why(code: str, word: str, state: str) -> None:
    one = Configured(
        name="hat",
        kind="accel_hat",
        settings={"port": "tcp://10.0.0.7:1"},
        state="searching",
        bound="accel_hat:1",
        error={"code": code, "why": "so it is"},
    )
    (row,) = settle([], [one], [row_of("accel_hat:1", link="tcp")], utc_ns=NOW)
    assert (row.state, row.alive, row.link) == (state, f"{word}so it is", "tcp")


def test_what_comes_and_goes_is_marked_while_one_watches() -> None:
    watch = Watch()
    a, b = seen("ble", "A", identity="muse:A"), seen("ble", "B", identity="muse:B")
    assert watch.take([a], 0.0) == [("", a)]
    assert watch.take([a, b], 5.0) == [("", a), ("+", b)]
    assert [mark for mark, _ in watch.take([a, b], 25.0)] == ["", ""]
    ((_, _), (mark, gone)) = watch.take([a], 30.0)
    assert (mark, gone.state, gone.alive) == ("-", "gone", "")
    assert [mark for mark, _ in watch.take([a, b], 35.0)] == ["", "+"]
    watch.take([a], 40.0)
    assert watch.take([a], 101.0) == [("", a)]  # nobody knows it, and it is long gone


def test_one_that_is_known_stays_in_the_list_when_it_goes() -> None:
    watch = Watch()
    here = seen("tcp", "tcp://a:1", identity="opm:1", state="in use", device="helmet")
    gone = seen("tcp", "tcp://a:1", identity="opm:1", state="gone", device="helmet")
    watch.take([here], 0.0)
    assert watch.take([gone], 5.0) == [("-", gone)]
    assert watch.take([gone], 500.0) == [("-", gone)]
    assert watch.take([here], 505.0) == [("+", here)]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.5, "now"), (42, "42 s ago"), (150, "2 min ago"), (9000, "2 h ago"), (864_000, "10 d ago")],
)
def test_a_person_reads_how_long_ago_it_was(seconds: float, said: str) -> None:
    assert ago(NOW - round(seconds * 1e9), NOW) == said
    assert ago(None, NOW) == ago(NOW, None) == "-"
