"""What `status` says to people about delivery and disk."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from brainforge_edge.cli.status import amount, disk_sentence, uplink_sentence
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.daemon.status import status
from brainforge_edge.uplink.acks import UNPROVEN
from brainforge_edge.uplink.keys import ERASED, NO_AGGREGATOR, NO_KEYS, NOT_FOR_IT, PLAIN


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3_200_000, "3.2 MB"), (2 * 10**12, "2.0 TB")],
)
def test_amounts_are_readable(n: int, words: str) -> None:
    assert amount(n) == words


def test_a_delivered_log_says_so() -> None:
    uplink = {"connected": True, "broker": "h:1883", "protocol": 5, "lag_chunks": 0}
    assert uplink_sentence(uplink) == (
        "uplink: connected to h:1883 (MQTT 5); everything that was archived is delivered"
    )


def test_a_backlog_without_a_broker_says_how_much_waits_since_when() -> None:
    uplink = {"connected": False, "lag_chunks": 3, "lag_bytes": 900_000, "lag_s": 12.5}
    uplink["quarantined"] = 1
    assert uplink_sentence(uplink) == (
        "uplink: no broker, tries again by itself; 3 chunks (900.0 kB) wait, the oldest for 12.5 s"
        "; 1 chunks were refused"
    )
    assert uplink_sentence({}) == "uplink: off"
    assert uplink_sentence({"live": {"sent": 0}}) == "uplink: starts"


def test_answers_that_are_not_signed_are_named_with_what_becomes_of_the_recordings() -> None:
    uplink = {"connected": True, "broker": "h:1883", "protocol": 5, "lag_chunks": 0}
    told = uplink_sentence(uplink | {"why": UNPROVEN, "forged": 7})
    assert told == (
        "uplink: connected to h:1883 (MQTT 5), but what answers is not signed by the aggregator of "
        "this site and is not believed: recordings are kept here until it is; everything that was "
        "archived is delivered; 7 messages were not the aggregator's and were ignored"
    )
    denied = {"missing": 2, "different": 1}
    assert uplink_sentence(uplink | {"denied": denied}).endswith(
        "; 3 closed segments are not in the aggregator's store as they are here"
    )


@pytest.mark.parametrize("reason", [PLAIN, NO_KEYS, ERASED, NO_AGGREGATOR, NOT_FOR_IT])
def test_what_must_not_leave_the_box_is_said_with_the_reason(reason: str) -> None:
    uplink = {"connected": True, "broker": "h:1883", "protocol": 5, "lag_chunks": 4}
    said = uplink_sentence(uplink | {"held_back": {reason: 4}})
    assert "; 4 chunks are kept here: " in said
    assert f": {reason}" not in said


def test_the_disk_says_how_long_it_lasts() -> None:
    assert disk_sentence({"free_bytes": 8e9, "hours_left": 2.5}) == (
        "disk: 8.0 GB free, 2.5 hours of recording at least"
    )
    assert disk_sentence({"free_bytes": 100, "hours_left": None}) == "disk: 100 B free"


def test_a_device_whose_process_is_not_there_is_down_with_a_reason(tmp_path: Path) -> None:
    def child(name: str, stats: dict[str, Any]) -> Any:
        told = {"pid": 1, "restarts": 1, "last_exit": None, "last_fault": None, "stats": stats}
        return SimpleNamespace(name=name, state="starting", **told)

    eeg = StreamInfo("cap-eeg", "cap", 250.0, Dtype.I24, (ChannelInfo("c0"),))
    found = status(
        node="box",
        disk={},
        recording="",
        meant=None,
        agent=child("agent", {}),
        acquirers=[child("acquire:cap", {})],
        others=[],
        streams={"cap-eeg": ("acquire:cap", eeg)},
    )
    named = {"stream_id": "cap-eeg", "device": "cap"}
    down = {"state": "down", "since_ms": 0, "reason": "no_process"}
    assert found["streams"] == [named | down]
