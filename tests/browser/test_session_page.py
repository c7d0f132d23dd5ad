"""A session through the page: what a person does at a bedside, and what they are told."""

import json
import signal
from collections.abc import Iterator

import pytest

from tests.browser.chromium import Browser, Tab, chromium
from tests.browser.conftest import Bedside


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def tab(browser: Browser, quiet: Bedside) -> Iterator[Tab]:
    with browser.tab() as opened:
        opened.size(1280, 900)
        opened.go(f"{quiet.url}/?lang=en")
        opened.until(text("state", "No session"))
        yield opened


def text(where: str, words: str) -> str:
    return f"document.getElementById({json.dumps(where)}).innerText.includes({json.dumps(words)})"


def fill(tab: Tab, selector: str, value: str) -> None:
    tab.until(f"document.querySelector({json.dumps(selector)})")
    tab.eval(
        f"(e => {{ e.value = {json.dumps(value)};"
        " e.dispatchEvent(new Event('input', {bubbles: true})) })"
        f"(document.querySelector({json.dumps(selector)}))"
    )


def choose(tab: Tab, who: str, mode: str) -> None:
    """The form for a session of the site's own protocol, not sent yet."""
    tab.click("#begin summary")
    tab.until("document.querySelector('#protocol option[value=site]')")
    fill(tab, "#by", "nurse")
    tab.eval("document.getElementById('protocol').value = 'site'")
    tab.eval(f"document.getElementById('mode').value = {json.dumps(mode)}")
    fill(tab, "#wearers [data-device=cap]", who)


def test_a_session_from_a_refusal_to_its_summary(tab: Tab, quiet: Bedside) -> None:
    choose(tab, "p-new", "dual")
    tab.click("#session-start")
    tab.until("document.querySelector('#checks [data-check=consent].bad .next')")
    tab.until(text("told", "may not start yet"))
    tab.picture("session-refused")
    assert quiet.now()["state"] == "idle"
    tab.click("#agreed")
    tab.until(text("told", "consent of p-new is noted"))
    tab.click("#session-start")
    tab.until(text("state", "is running"))
    tab.until(text("worn", "p-new wears cap"))
    tab.until("document.getElementById('banner').dataset.verdict === 'recording'")
    assert tab.eval("document.getElementById('stop').disabled")
    tab.until(text("phase", "meditate"))
    tab.until(text("instruction", "Now meditate."))
    tab.until("/^[0-9]/.test(document.querySelector('#bars .value').innerText)")
    assert tab.eval("document.querySelectorAll('#bars .bar').length") == 3
    assert "ms old" in tab.eval("document.querySelector('#bars .age').innerText")
    tab.picture("session")
    quiet.box.signal("cap", signal.SIGSTOP)
    try:
        tab.until(text("bars", "STALE"))
        assert tab.eval("document.querySelector('#bars .person').classList.contains('stale')")
    finally:
        quiet.box.signal("cap", signal.SIGCONT)
    tab.until("!document.querySelector('#bars .person').classList.contains('stale')")
    tab.click("#quick button")
    tab.until(text("done", "Eyes open"))
    tab.click("#session-stop")
    tab.until(text("state", "No session"))
    tab.until(text("summary", "markers: 1"))
    tab.until("document.getElementById('feedback').hidden")
    tab.picture("session-summary")
    assert tab.errors == []


def test_an_emergency_stop_is_one_press_and_is_released_by_name(tab: Tab, quiet: Bedside) -> None:
    quiet.step("consent", participant="p-one")
    choose(tab, "p-one", "feedback")
    tab.click("#session-start")
    tab.until(text("state", "is running"))
    tab.until(text("flags", "NOT RECORDING"))
    fill(tab, "#by", "")
    tab.click("#emergency")
    tab.until(text("flags", "EMERGENCY STOP"))
    tab.until(text("state", "ended with a fault"))
    assert quiet.now()["latch"] is not None
    tab.picture("emergency")
    tab.click("#session-release")  # nobody is named yet
    tab.until(text("told", "initials"))
    assert quiet.now()["latch"] is not None
    fill(tab, "#by", "doctor")
    tab.click("#session-release")
    tab.until("!document.querySelector('#flags [data-flag=latch]')")
    tab.click("#session-acknowledge")
    tab.until(text("state", "No session"))
    tab.click("#session-hand_over")
    tab.until("document.getElementById('worn').innerText === ''")
    assert quiet.now()["seats"] == {}
    assert tab.errors == []


@pytest.mark.parametrize("language", ["en", "de", "fr", "es"])
def test_the_card_fits_a_telephone_in_every_language(
    tab: Tab, quiet: Bedside, language: str
) -> None:
    tab.go(f"{quiet.url}/?lang={language}")
    tab.size(320, 640)
    tab.scheme("dark")
    tab.click("#begin summary")
    tab.until("document.querySelector('#protocol option[value=site]')")
    tab.until("document.querySelectorAll('#wearers input').length === 2")
    tab.until("innerWidth === 320")
    assert tab.eval("document.documentElement.scrollWidth") <= 320
    small = (
        "[...document.querySelectorAll('#session-card :is(button, select, input, summary), #emergency')]"
        ".filter(e => e.getClientRects().length && e.getBoundingClientRect().height < 43.5).length"
    )
    assert tab.eval(small) == 0
    tab.picture(f"session-320-{language}")
