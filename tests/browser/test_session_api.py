"""Sessions and features over HTTP, before a real daemon: what is done, and what is refused without a change."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.web.daemon import AT_ONCE, Daemon
from tests.browser.conftest import Bedside

WISH: dict[str, Any] = {"protocol": "site", "devices": {"cap": "p-one"}, "by": "nurse"}


def standing(bedside: Bedside) -> dict[str, Any]:
    """All that a refusal must not change."""
    now = bedside.now()
    return {key: now[key] for key in ("state", "session_id", "session", "seats", "latch")}


@pytest.mark.parametrize("path", ["/sessions", "/scan/start"])
def test_a_session_from_consent_to_summary(path: str, quiet: Bedside) -> None:
    assert quiet.step("consent", participant="p-one").status == 200
    looked = quiet.step("look", **WISH)
    assert (looked.status, looked.json["may_start"]) == (200, True)
    assert looked.json["state"] == "idle"
    assert {"consent", "link", "disk", "monitor", "latch"} <= {
        check["name"] for check in looked.json["checks"]
    }
    started = quiet.ask(path, WISH)
    assert started.status == 200
    assert started.json["session"]["devices"] == {"cap": "p-one"}
    now = quiet.until_now(lambda now: now["is_recording"], "a session that records")
    recording = now["session"]["recording"]
    assert quiet.ask("/record", {}).json["code"] == "session.session_goes_on"
    assert quiet.ask("/stop", raw=b"").json["code"] == "session.session_goes_on"
    quiet.until("recording")  # the other device of the box is not there, and not asked for
    assert quiet.ask("/status").json["devices"] == {"cap": True}
    marked = quiet.ask("/markers", {"description": "eyes closed"})
    assert (marked.status, marked.json["recording"]) == (200, recording)
    refused = quiet.ask(path, WISH)
    assert (refused.status, refused.json["code"]) == (409, "session.already_running")
    assert refused.json["fix"]
    assert quiet.now()["session_id"] == now["session_id"]
    quiet.until_now(lambda now: now["phase"]["name"] == "meditate", "the second phase")
    assert quiet.step("stop").status == 200
    assert quiet.until_now(quiet.is_over, "the end of the session")["state"] == "idle"
    ended = quiet.step("summary").json["summary"]
    assert ended["session_id"] == now["session_id"]
    assert ended["outcome"] == "stop_asked"
    assert ended["summary"]["markers"] == 1
    assert [each["stream_id"] for each in ended["summary"]["streams"] if each["n_samples"]]
    assert quiet.box.verify(quiet.box.recordings / recording)[recording]["cap-eeg"]["clean"]


def change(**more: object) -> dict[str, Any]:
    return {**WISH, **more}


REFUSED: dict[str, tuple[object, int, str]] = {
    "no consent": (change(devices={"cap": "p-nobody"}), 409, "session.no_consent"),
    "unknown device": (change(devices={"hat": "p-one"}), 409, "session.unknown_device"),
    "no device": (change(devices={}), 409, "session.no_devices"),
    "no time": (change(duration=0), 409, "session.bad_duration"),
    "less than no time": (change(duration=-5), 409, "session.bad_duration"),
    "too long": (change(duration=1e12), 409, "session.bad_duration"),
    "longer than the protocol": (change(duration=80_000), 409, "session.bad_duration"),
    "a time in words": (change(duration="long"), 400, "web.invalid"),
    "unknown protocol": (change(protocol="none"), 409, "session.unknown_protocol"),
    "unknown mode": (change(mode="loud"), 409, "session.bad_mode"),
    "a name": (change(devices={"cap": "Ann Smith"}), 409, "session.bad_participant"),
    "nobody": (change(by=" "), 409, "session.bad_person"),
    "nobody named": ({k: v for k, v in WISH.items() if k != "by"}, 400, "config.bad_argument"),
    "unknown key": (change(colour="red"), 400, "web.invalid"),
    "a list of devices": (change(devices=["cap"]), 400, "web.invalid"),
    "no json": (b"{bad", 400, "web.malformed"),
    "no text": (b'{"protocol": "\xff"}', 400, "web.malformed"),
    "nothing": (b"", 400, "web.invalid"),
}


@pytest.mark.parametrize("path", ["/sessions", "/scan/start"])
def test_a_start_that_may_not_be_is_refused_by_name_and_changes_nothing(
    path: str, quiet: Bedside
) -> None:
    before = standing(quiet)
    for case, (body, status, code) in REFUSED.items():
        is_raw = isinstance(body, bytes)
        answer = quiet.ask(path, raw=body) if is_raw else quiet.ask(path, body)  # type: ignore[arg-type]
        assert (answer.status, answer.json["code"]) == (status, code), case
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["detail"], case
        assert answer.json["fix"], case
    assert standing(quiet) == before


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("stop", "session.not_running"),
        ("acknowledge", "session.not_running"),
        ("save_again", "session.not_running"),
        ("release", "session.not_latched"),
        ("withdraw", "session.unknown_participant"),
        ("consent", "session.bad_participant"),
    ],
)
def test_a_step_that_may_not_be_is_refused_by_name(step: str, code: str, quiet: Bedside) -> None:
    before = standing(quiet)
    answer = quiet.step(step)
    assert (answer.status, answer.json["code"]) == (409, code)
    assert answer.json["fix"]
    for key in ("colour", "timeout_s", "is_urgent"):
        assert quiet.step(step, **{key: 1}).json["code"] == "config.bad_argument"
    assert standing(quiet) == before


def test_an_emergency_stop_latches_until_it_is_released(quiet: Bedside) -> None:
    quiet.step("consent", participant="p-one")
    assert quiet.step("emergency_stop", by="doctor").status == 200
    assert quiet.now()["latch"]["by"] == "doctor"
    refused = quiet.ask("/sessions", WISH)
    assert (refused.status, refused.json["code"]) == (409, "session.emergency_stop")
    assert quiet.step("release").json["latch"] is None


def test_features_are_real_numbers(quiet: Bedside) -> None:
    def computed() -> dict[str, Any]:
        answer = quiet.ask("/features?stream=cap-eeg&first=0&n=2")
        assert answer.status in {200, 404, 400, 503}, answer.body
        return answer.json if answer.status == 200 else {}

    def has_ratio() -> bool:
        figures = computed().get("features") or {"windows": []}
        return any(
            window["ratios"].get("alpha/beta", [None])[0] is not None
            for window in figures["windows"]
        )

    quiet.box.until(has_ratio, 90, "a ratio of a full window")
    said = computed()
    assert (said["first"], len(said["features"]["channels"])) == (0, 2)
    assert said["age_ms"] < 60_000
    lines = quiet.ask("/features").json["streams"]
    assert "cap-eeg" in {line["stream_id"] for line in lines}
    refused = quiet.ask("/features?stream=none")
    assert (refused.status, refused.json["code"]) == (400, "config.unknown_stream")
    assert refused.json["fix"]
    assert quiet.ask("/features?n=many").json["code"] == "web.invalid"


def test_an_emergency_stop_waits_for_nobody(tmp_path: Path) -> None:
    """Before a daemon that leaves every other request without an answer."""

    async def run() -> dict[str, Any]:
        n_silent = 0
        are_silent = asyncio.Event()

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal n_silent
            if b"emergency_stop" in await reader.readline():
                writer.write(b'{"ok": true, "emergency_stop": true}\n')
                await writer.drain()
            else:
                n_silent += 1
                if n_silent == AT_ONCE:
                    are_silent.set()
                await reader.read()
            writer.close()

        server = await asyncio.start_unix_server(hear, str(tmp_path / "s"))
        daemon = Daemon(tmp_path / "s")
        waiting = [asyncio.create_task(daemon.ask("stop")) for _ in range(AT_ONCE + 1)]
        await are_silent.wait()
        said = await daemon.ask("session", is_urgent=True, timeout_s=60, do="emergency_stop")
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        server.close()
        return said

    assert asyncio.run(run()) == {"emergency_stop": True}
