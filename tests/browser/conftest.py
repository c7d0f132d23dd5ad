"""A box with its page: a helmet streams, and a cap that is not plugged in."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from brainforge_edge.cloud.broker.ports import free_port
from tests.faults.box import Box, box_in


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Page:
    """The page's process of `box`, asked over HTTP."""

    def __init__(self, box: Box, port: int) -> None:
        self.box = box
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(
        self, path: str, body: object = None, *, raw: bytes | None = None, **headers: str
    ) -> Answer:
        """GET, or POST of `body` as JSON, or of `raw` as it is."""
        data = raw if body is None else json.dumps(body).encode()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        if data:
            named.setdefault("content-type", "application/json")
        request = urllib.request.Request(self.url + path, data=data, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, refused.read(), dict(refused.headers))

    def answers(self) -> bool:
        try:
            return self.ask("/status").status == 200
        except OSError:
            return False

    def verdict(self) -> str:
        return str(self.ask("/status").json["verdict"])

    def until(self, verdict: str) -> None:
        """Wait for it; the daemon itself is not asked, it may be frozen."""
        until = time.monotonic() + 60
        while self.verdict() != verdict:
            assert time.monotonic() < until, f"the verdict is not {verdict}: {self.verdict()}"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with box_in(tmp_path_factory.mktemp("box")) as box:
        port = free_port()
        box.device("helmet", "opm")
        box.write_config()
        with box.config.open("a") as config:
            config.write(f"[web]\nenabled = true\nport = {port}\n")
        box.emulate("helmet", "opm")
        box.start()
        served = Page(box, port)
        box.until(served.answers, 60, "the page")
        box.until_streaming("helmet-mag", 60)
        yield served


PHASES = (("settle", 2.0, False), ("meditate", 3600.0, True))
SITE = 'name = "site"\ntitle = { key = "site", text = "A plan of the site" }\n' + "".join(
    f'[[phase]]\nname = "{name}"\nduration_s = {duration_s}\ntimescale_s = 1\n'
    f"feedback = {str(feedback).lower()}\n"
    f'instruction = {{ key = "site.{name}", text = "Now {name}." }}\n'
    for name, duration_s, feedback in PHASES
)


class Bedside(Page):
    """A page of a box where sessions are held."""

    def now(self) -> dict[str, Any]:
        """The session as it is; {} while it cannot be asked for."""
        answer = self.ask("/sessions")
        return answer.json if answer.status == 200 else {}

    def until_now(self, is_so: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def is_there() -> bool:
            seen.clear()
            seen.update(self.now())
            return bool(seen and is_so(seen))

        self.box.until(is_there, 90, what)
        return seen

    def step(self, do: str, **given: object) -> Answer:
        return self.ask(f"/sessions/{do}", {"by": "nurse", **given})

    def is_over(self, now: dict[str, Any]) -> bool:
        return now["state"] in {"idle", "failed"}


@pytest.fixture(scope="session")
def bedside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bedside]:
    """A cap that streams, one that is configured and not there, and a protocol of the site's own."""
    with box_in(tmp_path_factory.mktemp("bedside")) as box:
        port = free_port()
        box.device("cap", "openbci")
        box.device("spare", "openbci")
        box.write_config()
        with box.config.open("a") as config:
            config.write(f"[web]\nenabled = true\nport = {port}\n")
        folder = box.root / "box" / "protocols"
        folder.mkdir(parents=True)
        (folder / "site.toml").write_text(SITE, encoding="utf-8")
        box.emulate("cap", "cyton")
        box.start()
        served = Bedside(box, port)
        box.until(served.answers, 60, "the page")
        box.until_streaming("cap-eeg", 60)
        served.until_now(lambda now: now["is_watched"], "the safety monitor")
        yield served


@pytest.fixture
def quiet(bedside: Bedside) -> Iterator[Bedside]:
    """Tests come in any order: each begins and ends with nobody on the box."""
    yield bedside
    if bedside.now()["state"] not in {"idle", "failed", "saving"}:
        bedside.step("stop")
    if bedside.until_now(bedside.is_over, "the end of the session")["state"] == "failed":
        bedside.step("acknowledge")
    if bedside.now()["emergency_stop"]:
        bedside.step("release")
    bedside.step("hand_over")


@pytest.fixture(autouse=True)
def nothing_is_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests come in any order: each begins with a device that streams and no recording."""
    yield
    if "page" not in request.fixturenames:
        return
    page: Page = request.getfixturevalue("page")
    if page.box.status().get("recording"):
        page.box.ask("stop")
