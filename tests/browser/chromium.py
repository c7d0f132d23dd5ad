"""A browser without a screen, driven over its own debugging protocol."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 60
# Where pictures of the page are left for a person to look at; none are made without it.
PICTURES = os.environ.get("BRAINFORGE_PICTURES", "")


class NotDone(Exception):
    """The browser did not do it; a page that is being left or opened is no place to ask in."""


class Tab:
    """One page. `errors` are what it threw or could not load; `asked` every address it asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.errors: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer; what happens meanwhile is noted."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if said.get("id") == number:
                if "error" in said:
                    raise NotDone(f"{method}: {said['error']}")
                answer: dict[str, Any] = said["result"]
                return answer
            self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        params = said.get("params", {})
        match said.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"])[:600])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(json.dumps(params["entry"])[:600])
            case "Network.requestWillBeSent":
                self.asked.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.asked.append(params["url"])

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.documentElement.dataset.ready === 'true'")

    def eval(self, expression: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise NotDone(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression: str, *, most_s: float = PATIENCE_S) -> None:
        """Wait until it holds on the page."""
        until = time.monotonic() + most_s
        while not self._holds(expression):
            assert time.monotonic() < until, f"{expression}\n{self.text()}\n{self.errors}"
            time.sleep(0.05)

    def _holds(self, expression: str) -> bool:
        try:
            return bool(self.eval(f"Boolean({expression})"))
        except NotDone:
            return False

    def text(self) -> str:
        return str(self.eval("document.body.innerText"))

    def click(self, selector: str) -> None:
        """As a person does: only what is there and enabled."""
        self.until(f"(e => e && !e.disabled)(document.querySelector({json.dumps(selector)}))")
        self.eval(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str, *, code: int = 0, text: str = "") -> None:
        more = {"text": text} if text else {}
        self.call(
            "Input.dispatchKeyEvent",
            type="keyDown",
            key=key,
            windowsVirtualKeyCode=code,
            **more,
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def size(self, width: int, height: int, *, ratio: float = 1.0) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=ratio,
            mobile=False,
        )

    def scheme(self, wanted: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": wanted}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, name: str) -> None:
        if not PICTURES:
            return
        width, height = self.eval("[innerWidth, document.documentElement.scrollHeight]")
        self.size(width, height)
        self.until(f"innerHeight === {height}")
        drawn = "Number(document.getElementById('canvas').dataset.drawn || 0)"
        with suppress(AssertionError):  # a picture of signals that stand still is one too
            self.until(f"{drawn} > {self.eval(drawn) + 250}", most_s=4)
        shot = self.call("Page.captureScreenshot", format="png")
        folder = Path(PICTURES)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


class Browser:
    """Opens tabs."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        new = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT"
        )
        with urllib.request.urlopen(new, timeout=PATIENCE_S) as answer:
            url = json.loads(answer.read())["webSocketDebuggerUrl"]
        with connect(url, max_size=64 * 1024 * 1024, compression=None) as socket:
            tab = Tab(socket)
            yield tab
            tab.call("Page.close")


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser of its own in `folder`; it ends with the context."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: tests/run installs it"
    log = (folder / "chromium.log").open("wb")
    process = subprocess.Popen(
        [
            program,
            "--headless=new",
            "--no-sandbox",  # a container has no user namespaces to spare
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--no-first-run",
            "--lang=en",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder / 'profile'}",
            "about:blank",
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        yield Browser(_port(process, folder))
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _port(process: "subprocess.Popen[bytes]", folder: Path) -> int:
    told = folder / "profile" / "DevToolsActivePort"
    until = time.monotonic() + PATIENCE_S
    while not told.exists() or len(told.read_text().splitlines()) < 2:
        assert process.poll() is None, (folder / "chromium.log").read_text()
        assert time.monotonic() < until, (folder / "chromium.log").read_text()
        time.sleep(0.05)
    return int(told.read_text().splitlines()[0])
