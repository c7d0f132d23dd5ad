"""Over the WebSocket: a session is started, and its feedback is seen while its phase shows some."""

import json
from typing import Any

from tests.browser.conftest import Bedside
from tests.browser.test_live import texts, viewer
from tests.browser.test_session_api import WISH


def asked(client: Any, **wish: object) -> dict[str, Any]:
    """The answer to `start_session`."""
    client.send(json.dumps({"type": "start_session", **WISH, **wish}))
    while True:
        said = json.loads(client.recv(timeout=60))
        if said["kind"] in {"problem", "session_started"}:
            found: dict[str, Any] = said
            return found


def test_a_start_that_may_not_be_is_refused_and_the_viewer_stays(quiet: Bedside) -> None:
    with viewer(quiet) as client:
        wrong: dict[str, dict[str, Any]] = {
            "session.no_consent": {"devices": {"cap": "p-nobody"}},
            "session.unknown_device": {"devices": {"hat": "p-one"}},
            "session.bad_duration": {"duration": -1},
            "web.invalid": {"colour": "red"},
        }
        for code, wish in wrong.items():
            answer = asked(client, **wish)
            assert (answer["kind"], answer["said"]["code"]) == ("problem", code)
            assert answer["said"]["fix"]
        assert texts(client, "status")["said"]["status"]["recording"] is None
    assert quiet.now()["state"] == "idle"


def test_feedback_comes_with_its_phase_and_ends_with_the_session(quiet: Bedside) -> None:
    quiet.step("consent", participant="p-one")
    with viewer(quiet) as client:
        started = asked(client, mode="feedback")
        assert started["kind"] == "session_started"
        assert asked(client)["said"]["code"] == "session.already_running"
        told = texts(client, "feedback_update")
        assert (told["phase"], told["session_id"]) == ("meditate", started["said"]["session_id"])
        assert told["type"] == "feedback_update"
        assert set(told["devices"]) == {"cap"}
        assert told["devices"]["cap"]["subject"] == "p-one"
        while (cap := texts(client, "feedback_update")["devices"]["cap"])["relaxation"].get(
            "1s"
        ) is None:
            for window, why in cap["missing"].items():
                assert why
                assert cap["relaxation"][window] is None
        assert cap["relaxation"]["1s"] > 0
        assert set(cap["relaxation"]) == {"1s", "2s", "4s"}
        assert cap["quality"]["data_age_ms"] >= 0
        assert not texts(client, "session")["said"]["is_recording"]
        assert texts(client, "status")["said"]["verdict"] == "idle"
        quiet.step("stop")
        while texts(client, "session")["said"]["state"] != "idle":
            continue
        after = [json.loads(client.recv(timeout=60))["kind"] for _ in range(8)]
        assert "feedback_update" not in after
