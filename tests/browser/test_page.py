"""The page in a real browser: what it says is what happens, at every size and without anybody else."""

import gzip
import json
import re
import signal
from collections.abc import Iterator

import pytest

from brainforge_edge.web.page import FILES
from tests.browser.chromium import Browser, Tab, chromium
from tests.browser.conftest import Page

MOST_BYTES = 120 * 1000
LANGUAGES = ("en", "de", "fr", "es")
SHOWN = "document.getElementById('banner').dataset.verdict"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def tab(browser: Browser, page: Page) -> Iterator[Tab]:
    with browser.tab() as opened:
        opened.size(1280, 900)
        opened.go(f"{page.url}/?lang=en")
        yield opened


def verdict(tab: Tab, wanted: str) -> None:
    tab.until(f"{SHOWN} === {json.dumps(wanted)}")


def test_a_person_records_marks_and_stops(tab: Tab, page: Page) -> None:
    verdict(tab, "idle")
    tab.until("document.getElementById('alarms').innerText.includes('No alarms')")
    tab.click("#start")
    verdict(tab, "recording")
    assert page.box.status()["recording"]
    tab.until("Number(document.getElementById('canvas').dataset.drawn) > 100")
    tab.picture("recording")
    tab.click("#quick button")
    tab.until("document.getElementById('done').innerText.includes('Eyes open')")
    pressed = (
        "(button => { button.click(); return button.innerText })(document.getElementById('stop'))"
    )
    assert tab.eval(pressed) == "Really stop? Press again"
    assert page.box.status()["recording"]
    # The second press counts for five seconds: a slow machine presses again.
    page.box.until(lambda: tab.eval(pressed) and not page.box.status()["recording"], 60, "a stop")
    verdict(tab, "idle")
    tab.until("document.getElementById('done').innerText.includes('is stored')")
    assert tab.errors == []


def test_recording_is_shown_only_while_rows_grow(tab: Tab, page: Page) -> None:
    """The device is stopped in its tracks; then it goes on."""
    assert page.ask("/record", {"name": "grows"}).status == 200
    verdict(tab, "recording")
    page.box.signal("helmet", signal.SIGSTOP)
    try:
        tab.until(f"{SHOWN} !== 'recording'")
        tab.until("document.querySelector('#alarms .card.bad .next')")
        assert "helmet" in tab.eval("document.getElementById('alarms').innerText")
        verdict(tab, "stalled")
        tab.picture("stalled")
    finally:
        page.box.signal("helmet", signal.SIGCONT)
    verdict(tab, "recording")


def test_a_killed_device_shows_its_alarm_with_the_next_step(tab: Tab, page: Page) -> None:
    verdict(tab, "idle")
    page.box.end(page.box.emulators["helmet"])
    try:
        tab.until("document.querySelector('#alarms [data-alarm^=\"link:helmet\"] .next')")
        said = tab.eval("document.getElementById('alarms').innerText")
        assert "helmet" in said
        assert "→" not in said  # the arrow is drawn, and not read out
        tab.until("document.getElementById('alarms').innerText.includes('Plug helmet in')")
        tab.picture("alarm")
    finally:
        page.box.emulate("helmet", "opm")
        page.box.until_streaming("helmet-mag", 60)
    tab.until("document.getElementById('alarms').innerText.includes('No alarms')")


def test_a_silent_daemon_and_a_lost_page_are_no_recording(tab: Tab, page: Page) -> None:
    assert page.ask("/record", {"name": "silent"}).status == 200
    verdict(tab, "recording")
    daemon = page.box.daemon
    assert daemon is not None
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        verdict(tab, "unknown")
        assert tab.eval("document.getElementById('start').disabled")
        tab.picture("no-contact")
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    verdict(tab, "recording")


def test_a_refusal_is_shown_with_what_to_do(tab: Tab, page: Page) -> None:
    verdict(tab, "idle")
    tab.eval(
        "document.getElementById('stop').disabled = false"
    )  # as another viewer just stopped it
    tab.eval("document.getElementById('stop').click(); document.getElementById('stop').click()")
    tab.until("document.querySelector('#refused .next')")
    assert "no recording is open" in tab.eval("document.getElementById('refused').innerText")


@pytest.mark.parametrize("size", [(320, 640), (768, 1024), (1280, 900), (3840, 2160)])
def test_no_size_scrolls_sideways_and_all_can_be_hit(tab: Tab, size: tuple[int, int]) -> None:
    verdict(tab, "idle")
    for language in LANGUAGES:
        tab.eval(
            f"(s => {{ s.value = '{language}'; s.dispatchEvent(new Event('change')) }})"
            "(document.getElementById('language'))"
        )
        tab.until(f"document.documentElement.lang === '{language}'")
        words = json.loads(FILES[f"{language}.json"])
        said = "['verdict', 'hint'].map(id => document.getElementById(id).innerText)"
        assert tab.eval(said) == [words["verdict.idle"], words["hint.idle"]]
        tab.size(*size)
        tab.until(f"innerWidth === {size[0]}")
        assert tab.eval("document.documentElement.scrollWidth") <= size[0], language
        small = tab.eval(
            "[...document.querySelectorAll('button, select, input')]"
            ".filter(e => e.getClientRects().length && e.getBoundingClientRect().height < 43.5).length"
        )
        assert small == 0, language
    tab.picture(f"{size[0]}x{size[1]}")


def test_everything_can_be_reached_by_keyboard(tab: Tab) -> None:
    verdict(tab, "idle")
    reached = set()
    for _ in range(40):
        tab.press("Tab", code=9)
        reached.add(tab.eval("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "language", "theme", "words", "stream", "view", "canvas"} <= reached
    tab.until("!document.getElementById('start').disabled")
    tab.eval("document.getElementById('canvas').focus()")
    tab.press("v", text="v")
    assert tab.eval("document.getElementById('view').value") == "butterfly"


def test_every_control_has_a_name_and_the_page_its_landmarks(tab: Tab) -> None:
    nameless = tab.eval(
        "[...document.querySelectorAll('button, select, input, canvas')].filter(e => !("
        "e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length)))"
        ".map(e => e.id)"
    )
    assert nameless == []
    assert tab.eval("document.querySelectorAll('h1').length") == 1
    assert tab.eval("document.querySelectorAll('main').length") == 1
    assert tab.eval("document.querySelectorAll('[aria-live=assertive], [role=alert]').length") >= 2


def test_the_night_view_is_dark(tab: Tab) -> None:
    verdict(tab, "idle")
    tab.click("#theme")
    light = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    assert tab.eval(light) < 40
    tab.picture("night")


def test_it_asks_nobody_else_for_anything(tab: Tab, page: Page) -> None:
    verdict(tab, "idle")
    host = f"127.0.0.1:{page.port}/"
    own = [url for url in tab.asked if re.match(rf"(https?|wss?)://{re.escape(host)}", url)]
    assert own
    assert [url for url in tab.asked if url not in own and not url.startswith("about:")] == []
    assert tab.errors == []


def test_it_is_small() -> None:
    """What a browser loads at first, and all languages."""
    assert sum(len(gzip.compress(content)) for content in FILES.values()) <= MOST_BYTES


def test_every_language_says_everything() -> None:
    tables = {name: json.loads(FILES[f"{name}.json"]) for name in LANGUAGES}
    asked = set(re.findall(r'data-(?:word|label)="([^"]+)"', FILES["index.html"].decode()))
    for name, table in tables.items():
        assert set(table) == set(tables["en"]), name
        assert asked <= set(table)
        for key, sentence in table.items():
            assert sentence.strip(), (name, key)
            wanted = set(re.findall(r"\{\w+\}", tables["en"][key]))
            assert set(re.findall(r"\{\w+\}", sentence)) == wanted, (name, key)


def test_every_alarm_of_the_page_has_a_cause_and_a_next_step() -> None:
    table = json.loads(FILES["en.json"])
    for key in ("contact", "stalled", "unsaved"):
        assert {f"alarm.{key}", f"why.{key}", f"next.{key}"} <= set(table)
    states = ("searching", "connecting", "degraded", "lost", "down", "stopped")
    assert {f"alarm.link.{state}" for state in states} | {"next.link"} <= set(table)
