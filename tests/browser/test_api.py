"""The API before a real daemon: what it does, what it refuses, and that a refusal changes nothing."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from brainforge_edge.core.errors import TransportError
from brainforge_edge.web.api import MOST_BYTES
from brainforge_edge.web.guard import HEADERS
from brainforge_edge.web.server import listen
from tests.browser.conftest import Page


def test_a_recording_from_start_to_stop(page: Page) -> None:
    page.until("idle")
    started = page.ask("/record", {"name": "whole"})
    assert (started.status, started.json["recording"]) == (200, "whole")
    page.until("recording")
    page.box.until(
        lambda: page.ask("/status").json["devices"] == {"helmet": True}, 60, "the device's rows"
    )
    marked = page.ask("/markers", {"description": "eyes closed", "duration": 2})
    assert (marked.status, marked.json["recording"]) == (200, "whole")
    stopped = page.ask("/stop", raw=b"")
    assert (stopped.status, stopped.json["recording"]) == (200, "whole")
    page.until("idle")
    account = page.box.verify(page.box.recordings / "whole")["whole"]
    assert account["helmet-mag"]["clean"]
    assert account["helmet-mag"]["rows"] > 0


def test_what_the_daemon_refuses_says_why_and_what_to_do(page: Page) -> None:
    refused = page.ask("/stop", raw=b"")
    assert refused.status == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json["code"] == "session.not_recording"
    assert refused.json["detail"] == "no recording is open"
    assert refused.json["fix"]
    assert page.ask("/markers", {"description": "now"}).status == 409


def test_verbs_that_a_daemon_does_not_know_are_named(page: Page) -> None:
    """Or are done, by one that knows them: never a failure without a name."""
    for answer in (page.ask("/features"), page.ask("/sessions"), page.ask("/sessions/look", {})):
        assert answer.status == 200 or answer.json["code"]
        assert answer.status < 500 or answer.status in {501, 503}


REFUSED = {
    "no json": ("/record", b"{bad", 400, "web.malformed"),
    "no text": ("/record", b'{"name": "\xff"}', 400, "web.malformed"),
    "deep": ("/record", b'{"name": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400, "web.malformed"),
    "no object": ("/record", b"[1]", 400, "web.invalid"),
    "unknown key": ("/record", b'{"nmae": "x"}', 400, "web.invalid"),
    "wrong type": ("/record", b'{"name": 7}', 400, "web.invalid"),
    "out of range": ("/record", b'{"preroll": 61}', 400, "web.invalid"),
    "wrong name": ("/record", b'{"name": "a/b"}', 400, "config.bad_name"),
    "no body": ("/record", b"", 400, "web.invalid"),
    "too large": ("/record", b" " * (MOST_BYTES + 1), 413, "web.too_large"),
    "marker without words": ("/markers", b'{"description": ""}', 400, "web.invalid"),
    "blank marker": ("/markers", b'{"description": "  "}', 400, "config.bad_argument"),
    "unknown step": ("/sessions/fly", b"{}", 400, "web.invalid"),
    "no such path": ("/shutdown", b"{}", 404, "web.no_such_path"),
    "wrong method": ("/status", b"{}", 405, "web.wrong_method"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_does_not_fit_is_named_and_changes_nothing(case: str, page: Page) -> None:
    path, body, status, code = REFUSED[case]
    answer = page.ask(path, raw=body)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert answer.json["fix"]
    assert page.box.status()["recording"] is None


def test_foreign_names_and_pages_are_refused(page: Page) -> None:
    assert page.ask("/status", host="evil.example").json["code"] == "web.wrong_host"
    refused = page.ask("/record", {}, origin="http://evil.example")
    assert (refused.status, refused.json["code"]) == (403, "web.foreign_page")
    assert page.ask("/record", raw=b"name=x", content_type="text/plain").status == 415
    assert page.box.status()["recording"] is None
    assert page.ask("/record", {"name": "own-page"}, origin=page.url).status == 200


def test_every_answer_has_the_headers(page: Page) -> None:
    for path in ("/status", "/nope", "/metrics", "/openapi.json"):
        headers = {key.lower(): value for key, value in page.ask(path).headers.items()}
        for name, value in HEADERS:
            assert headers[name.decode()] == value.decode(), path


def test_the_description_names_every_path_and_its_limits(page: Page) -> None:
    said = page.ask("/openapi.json").json
    assert said["openapi"].startswith("3.1")
    paths = {"/status", "/devices", "/features", "/record", "/stop", "/markers", "/scan/start"}
    assert paths | {"/sessions", "/sessions/{step}", "/metrics"} <= set(said["paths"])
    schemas = said["components"]["schemas"]
    assert schemas["Record"]["properties"]["name"]["maxLength"] == 64
    assert {"protocol", "devices"} <= set(schemas["Scan"]["required"])


def test_metrics_are_the_figures_of_status(page: Page) -> None:
    answer = page.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(
        line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if line[0] != "#"
    )
    assert lines["brainforge_up"] == "1"
    assert float(lines['brainforge_stream_rows_total{stream="helmet-mag",device="helmet"}']) > 0
    assert lines['brainforge_worker_restarts_total{worker="agent"}'] == "0"


def test_twelve_clients_are_answered_while_it_records(page: Page) -> None:
    """How fast is a benchmark's to say: here each is answered, and no row is lost for it."""
    before = page.box.stream("helmet-mag")["box_drops"]
    assert page.ask("/record", {"name": "asked-much"}).status == 200
    page.until("recording")
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda _: page.ask("/status"), range(240)))
    assert {answer.status for answer in answers} == {200}
    page.until("recording")
    assert page.box.stream("helmet-mag")["box_drops"] == before


def test_a_silent_daemon_is_not_believed_to_record(page: Page) -> None:
    assert page.ask("/record", {"name": "frozen"}).status == 200
    page.until("recording")
    daemon = page.box.daemon
    assert daemon is not None
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        page.until("unknown")
        assert "brainforge_up 0" in page.ask("/metrics").body.decode()
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    page.until("recording")


def test_a_killed_page_is_served_again_and_the_recording_goes_on(page: Page) -> None:
    assert page.ask("/record", {"name": "without-page"}).status == 200
    page.until("recording")
    gaps = page.box.stream("helmet-mag")["gaps"]
    pid = page.box.worker("web")["pid"]
    os.kill(pid, signal.SIGKILL)
    page.box.until(lambda: page.box.worker("web")["pid"] not in {pid, None}, 60, "another process")
    page.box.until(page.answers, 60, "the page")
    page.until("recording")
    assert page.box.stream("helmet-mag")["gaps"] == gaps


def test_a_port_that_is_taken_is_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TransportError) as refused:
        listen("127.0.0.1", taken.getsockname()[1])
    assert refused.value.code == "transport.listen"
    assert "web.port" in refused.value.remedy


def test_small_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as listening:
        listening.settimeout(60)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
