"""A box that is served to others: nobody sees or changes anything without a login, or beyond a role."""

import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from brainforge_edge.cloud.broker.ports import free_port
from brainforge_edge.web.logins import Role, entry
from tests.broker.pki import Pki
from tests.browser.chromium import chromium
from tests.browser.conftest import Answer
from tests.browser.test_live import end_of
from tests.faults.box import Box, box_in

WORDS = {"nurse": "quiet river stone", "guest": "look and do not touch"}
PATIENCE_S = 60


class Site:
    """A box with a page over TLS; each person has a cookie of their own."""

    def __init__(self, box: Box, port: int, ca: Path) -> None:
        self.box = box
        self.port = port
        self.trust = ssl.create_default_context(cafile=ca)
        self.url = f"https://127.0.0.1:{port}"

    def ask(self, path: str, body: object = None, *, cookie: str = "") -> Answer:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "cookie": cookie}
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.trust) as answer:
                return Answer(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, refused.read(), dict(refused.headers))

    def answers(self) -> bool:
        try:
            return self.ask("/").status == 200
        except OSError:
            return False

    def log_in(self, name: str) -> str:
        answer = self.ask("/login", {"name": name, "password": WORDS[name]})
        assert answer.status == 200
        cookie = answer.headers["set-cookie"]
        for word in ("Secure", "HttpOnly", "SameSite=Strict"):
            assert word in cookie
        return cookie.partition(";")[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    pki = Pki(root / "pki")
    logins = root / "logins"
    logins.write_text(
        "\n".join(
            entry(name, role, WORDS[name], random=os.urandom)
            for name, role in (("nurse", Role.OPERATOR), ("guest", Role.VIEWER))
        )
    )
    with box_in(root / "box") as box:
        port = free_port()
        box.device("helmet", "opm")
        box.write_config()
        with box.config.open("a") as config:
            config.write(
                f"[web]\nenabled = true\nport = {port}\nidle_s = 600\n"
                f'certificate = "{pki.broker.certificate}"\nkey = "{pki.broker.key}"\n'
                f'logins = "{logins}"\n'
            )
        box.start()
        served = Site(box, port, pki.broker.ca)
        box.until(served.answers, PATIENCE_S, "the page")
        yield served


PATHS = ("/status", "/devices", "/features", "/metrics", "/openapi.json", "/sessions")


def test_without_a_login_there_is_the_form_and_nothing_else(site: Site) -> None:
    for path in PATHS:
        answer = site.ask(path)
        assert (answer.status, answer.json["code"]) == (401, "web.login_needed"), path
    for path in ("/record", "/stop", "/markers", "/scan/start", "/sessions"):
        assert site.ask(path, {}).status == 401, path
    assert site.ask("/login").status == 401
    for cookie in ("brainforge=", "brainforge=" + "0" * 64, "x", 'brainforge="'):
        assert site.ask("/status", cookie=cookie).status == 401
    assert site.box.status()["recording"] is None
    with pytest.raises(InvalidStatus) as refused:
        connect(f"wss://127.0.0.1:{site.port}/live", ssl=site.trust).__enter__()
    assert refused.value.response.status_code == 401


def test_a_viewer_looks_and_changes_nothing(site: Site) -> None:
    cookie = site.log_in("guest")
    assert site.ask("/login", cookie=cookie).json["role"] == "viewer"
    assert site.ask("/status", cookie=cookie).status == 200
    for path in ("/record", "/stop", "/sessions/emergency_stop"):
        answer = site.ask(path, {}, cookie=cookie)
        assert (answer.status, answer.json["code"]) == (403, "web.not_allowed")
    assert site.box.status()["recording"] is None


def test_a_viewer_starts_no_session_over_the_websocket(site: Site) -> None:
    with connect(
        f"wss://127.0.0.1:{site.port}/live",
        ssl=site.trust,
        additional_headers={"Cookie": site.log_in("guest")},
    ) as client:
        client.send(json.dumps({"type": "start_session", "protocol": "p300", "devices": {}}))
        while (said := json.loads(client.recv(timeout=60)))["kind"] != "problem":
            continue
    assert (said["said"]["status"], said["said"]["code"]) == (403, "web.not_allowed")


def test_an_operator_records_until_the_end_of_the_login(site: Site) -> None:
    cookie = site.log_in("nurse")
    assert site.ask("/record", {"name": "by-nurse"}, cookie=cookie).status == 200
    assert site.ask("/stop", {}, cookie=cookie).status == 200
    with connect(
        f"wss://127.0.0.1:{site.port}/live",
        ssl=site.trust,
        additional_headers={"Cookie": cookie},
    ) as client:
        assert client.recv(timeout=PATIENCE_S)
        assert site.ask("/logout", {}, cookie=cookie).status == 200
        code, _ = end_of(client)  # it is hung up on, though it asks for nothing
    assert code == 4401
    assert site.ask("/status", cookie=cookie).status == 401


def test_wrong_words_are_refused_and_guessing_is_slowed(site: Site) -> None:
    """From an address of its own: those who know theirs are not kept waiting."""
    assert site.ask("/login", ["nurse"]).json["code"] == "web.malformed"
    seen = set()
    for i in range(7):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", site.port, context=site.trust, source_address=("127.0.0.2", 0), timeout=60
        )
        said = json.dumps({"name": "nurse", "password": f"wrong words {i}"})
        connection.request("POST", "/login", said, {"content-type": "application/json"})
        seen.add(json.loads(connection.getresponse().read())["code"])
        connection.close()
    assert seen == {"web.wrong_login", "web.too_often"}
    site.log_in("guest")


def test_a_person_logs_in_at_the_page(site: Site, tmp_path: Path) -> None:
    with chromium(tmp_path) as browser, browser.tab() as tab:
        tab.call("Security.setIgnoreCertificateErrors", ignore=True)
        tab.size(1280, 900)
        tab.go(f"{site.url}/?lang=en")
        tab.until("!document.getElementById('login').hidden")
        assert tab.eval("document.querySelector('.controls').hidden")
        tab.until("document.getElementById('banner').dataset.verdict === 'outside'")
        assert "helmet" not in tab.text()
        tab.picture("login")
        for name, password, is_in in (
            ("guest", "wrong words here", False),
            ("guest", WORDS["guest"], True),
        ):
            tab.eval(
                f"document.getElementById('name').value = {json.dumps(name)};"
                f"document.getElementById('password').value = {json.dumps(password)};"
                "document.getElementById('credentials').requestSubmit()"
            )
            shown = (
                "document.getElementById('login').hidden"
                if is_in
                else ("document.getElementById('denied').innerText.includes('is wrong')")
            )
            tab.until(shown)
        tab.until("document.getElementById('banner').dataset.verdict === 'idle'")
        assert tab.eval("document.querySelector('.controls').hidden")
        tab.picture("viewer")
        tab.click("#logout")
        tab.until("!document.getElementById('login').hidden")
