"""Runs what the host asks for. Runs in: the guest, started by systemd, one script after another.

A line each way on a serial port: {"name", "arguments", "timeout_s"} →
{"status", "stdout", "stderr", "journal"}. A script that takes too long has the status 124.
"""

import json
import os
import subprocess
import sys
import tty
from typing import Any


def run(name: str, arguments: list[str], timeout_s: float) -> dict[str, Any]:
    command = [sys.executable, "-m", f"tests.guest.inside.{name}", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        status, out, err = 124, _text(late.stdout), _text(late.stderr)
    journal = "" if status == 0 else _journal()
    return {"status": status, "stdout": out[-20_000:], "stderr": err[-20_000:], "journal": journal}


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _journal() -> str:
    command = ["journalctl", "--no-pager", "-o", "short-monotonic", "-n", "60"]
    return "".join(
        subprocess.run([*command, *what], capture_output=True, text=True, check=False).stdout
        for what in (["-k"], ["-u", "brainforge-edge", "-u", "bluetooth"])
    )


def main(port: str) -> None:
    fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    with os.fdopen(fd, "rb+", buffering=0) as line:

        def say(reply: dict[str, Any]) -> None:
            data = memoryview(json.dumps(reply).encode() + b"\n")
            while data:
                data = data[line.write(data) :]

        say({"status": 0})
        waiting = b""
        while True:
            waiting += line.read(4096)
            while b"\n" in waiting:
                request, _, waiting = waiting.partition(b"\n")
                asked = json.loads(request)
                say(run(asked["name"], asked["arguments"], asked["timeout_s"]))


if __name__ == "__main__":
    main(sys.argv[1])
