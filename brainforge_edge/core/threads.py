"""Threads whose names the kernel knows too, so that `ps -T` and `top -H` show what each one costs; and a bell.

Runs in: any worker.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Protocol, TypeVar

from brainforge_edge.core.clock import Clock

T = TypeVar("T")
LOOK_S = 0.05  # how often a clock is asked while something is waited for


class Thread(Protocol):
    """What starts and joins a thread asks of it; a simulation puts something else there."""

    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def is_alive(self) -> bool: ...


def named(name: str, body: Callable[[], None], *, daemon: bool = False) -> threading.Thread:
    """A thread that is not started yet; `name` of at most 15 characters is shown by the kernel."""

    def run() -> None:
        task = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        task.write_text(name[:15], encoding="ascii")
        body()

    return threading.Thread(target=run, name=name, daemon=daemon)


def result_within(running: "Future[T]", timeout_s: float | None, clock: Clock) -> T:
    """What `running` comes to, or raises; TimeoutError after `timeout_s` by `clock`, which may be a slow one."""
    began_ns = clock.monotonic_ns()
    while not wait([running], LOOK_S).done:
        if timeout_s is not None and clock.monotonic_ns() - began_ns >= timeout_s * 1e9:
            raise TimeoutError
    return running.result()


class Bell:
    """Wakes the one thread that waits. Rung before it waits, or more than once: it wakes once.

    A lock used as a semaphore, for there is nothing cheaper to wake a thread with: no descriptor,
    no object made, and one system call on either side.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """From any thread."""
        try:
            self._silence.release()
        except RuntimeError:  # rung already: who waits has not looked yet
            return

    def wait(self, timeout_s: float) -> bool:
        """Whether it was rung within `timeout_s`, or since the last call."""
        return self._silence.acquire(timeout=timeout_s)
