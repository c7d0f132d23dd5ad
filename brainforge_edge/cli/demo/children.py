"""Processes that the demo starts, and ends by their pid on every way out. Runs in: the demo process."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from brainforge_edge.core.errors import FAMILIES, BrainforgeError, CloudError, StorageError

_PR_SET_PDEATHSIG = 1  # prctl(2): a demo that is killed takes its children with it


class Child:
    """One process with its output in a file."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        if self.is_alive:
            self.process.terminate()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended in time."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, timeout_s: float) -> None:
        """Ask, wait, then kill; returns when it is gone."""
        self.terminate()
        if not self.wait(timeout_s):
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The last line of its output."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:500] if lines else ""


class Children:
    """All of them, ended in reverse order."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._children):
            child.end(20.0 if kind is None else 10.0)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start a process; Ctrl-C on the terminal does not reach it, the demo ends it in order."""
        log = self._logs / f"{name}.log"
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment},
                    start_new_session=True,
                    preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread of ours runs yet
                )
        except OSError as error:
            raise StorageError(
                "process",
                f"cannot start {name}",
                why=str(error.strerror or error).lower(),
                remedy="Check that the demo's folder is writable and the program is installed",
            ) from error
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def release(self, ended: Sequence[Child]) -> None:
        """These have ended because they were asked to."""
        self._children = [child for child in self._children if child not in ended]

    def check(self) -> None:
        """Raise if one of them ended by itself."""
        for child in self._children:
            if not child.is_alive:
                raise _ended(child)


def python(module: str, *arguments: str) -> list[str]:
    """The command for one of our modules, in this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _ended(child: Child) -> BrainforgeError:
    status = child.process.returncode
    family = next((f for f in FAMILIES.values() if f.exit_status == status), CloudError)
    words = child.last_words()
    return family(
        "demo_child",
        f"the demo's {child.name} stopped by itself",
        why=f"exit status {status}" + (f", last said: {words.rstrip('.')}" if words else ""),
        remedy="Run the demo again with --root DIR and read DIR/logs",
        process=child.name,
    )
