"""A box with its page: a helmet streams, and a cap that is not plugged in."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def nothing_is_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests come in any order: each begins with a device that streams and no recording."""
    yield
    if "page" not in request.fixturenames:
        return
    page: Page = request.getfixturevalue("page")
    if page.box.status().get("recording"):
        page.box.ask("stop")
