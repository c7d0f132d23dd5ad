"""Threads whose names the kernel knows too, so that `ps -T` and `top -H` show what each one costs; and a bell.

Runs in: any worker.
"""

import threading
from collections.abc import Callable
from pathlib import Path


def named(name: str, body: Callable[[], None], *, daemon: bool = False) -> threading.Thread:
    """A thread that is not started yet; `name` of at most 15 characters is shown by the kernel."""

    def run() -> None:
        task = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        task.write_text(name[:15], encoding="ascii")
        body()

    return threading.Thread(target=run, name=name, daemon=daemon)


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
