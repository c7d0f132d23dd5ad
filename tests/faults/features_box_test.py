"""Features of a box that records: shown with quality and age, and of no consequence for the record."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.box import Box, box_in, check_refusal, cli

STREAM = "cap-eeg"
CONFIG = 10


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with box_in(tmp_path_factory.mktemp("box")) as made:
        made.device("cap", "openbci")
        made.write_config()
        made.emulate("cap", "cyton")
        made.start()
        made.until_streaming(STREAM, 60)
        yield made


def figures(box: Box) -> dict[str, Any]:
    """The newest, {} while there are none or the pipeline is not there."""
    result = cli("features", STREAM, "--run", box.run, "--json")
    reply: dict[str, Any] = json.loads(result.stdout)
    return reply.get("features") or {}


def has_numbers(box: Box) -> bool:
    windows = figures(box).get("windows") or [{"trouble": ["start"]}]
    return not any(windows[0]["trouble"])


def has_all(box: Box) -> bool:
    newest = figures(box)
    return bool(newest) and all(newest["quality"]) and not any(newest["windows"][2]["trouble"])


def test_numbers_come_with_quality_and_age(box: Box) -> None:
    box.until(lambda: has_all(box), 60, "figures of all windows")
    newest = figures(box)
    assert len(newest["channels"]) == len(newest["quality"]) == 8
    assert newest["age_ms"] > 0
    assert newest["quality_ns"] <= newest["computed_ns"]
    for window in newest["windows"]:
        assert all(value > 0 for value in window["powers"]["alpha"])

    shown = cli("features", STREAM, "--run", box.run).stdout
    assert "age " in shown.splitlines()[0]
    assert all(name in shown for name in newest["channels"])
    listed = cli("features", "--run", box.run).stdout
    assert STREAM in listed
    pace = box.status()["pipeline"]["pace"]
    assert set(pace) == {"level", "shed", "busy", "behind_s", "changes"}


def test_a_killed_pipeline_costs_no_row_and_features_return(box: Box) -> None:
    box.until(lambda: has_numbers(box), 60, "figures")
    assert cli("record", "--run", box.run).returncode == 0
    before = box.worker("pipeline")
    acquired = box.worker("acquire:cap")["pid"]
    os.kill(before["pid"], signal.SIGKILL)
    box.until(lambda: box.worker("pipeline")["restarts"] > before["restarts"], 60, "its restart")
    box.until(lambda: has_numbers(box), 60, "figures after the restart")
    assert box.worker("acquire:cap")["pid"] == acquired
    assert cli("stop", "--run", box.run).returncode == 0
    (streams,) = box.verify().values()
    account = streams[STREAM]
    assert account["rows"] > 0
    assert not account["missing"]
    assert not account["duplicates"]


def test_what_has_no_features_is_refused_in_one_sentence(box: Box) -> None:
    check_refusal(cli("features", "nobody", "--run", box.run), CONFIG, "nobody", STREAM)
