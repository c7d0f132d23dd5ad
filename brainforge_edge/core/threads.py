"""Threads whose names the kernel knows too, so that `ps -T` and `top -H` show what each one costs.

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
