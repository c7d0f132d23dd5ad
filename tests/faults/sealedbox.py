"""A box that seals what it records of Cytons, and whose acquire processes are killed."""

import os
import signal
from pathlib import Path

from tests.faults.box import Box

STREAM = "cap-eeg"


def recording_box(
    box: Box, *, is_sealed: bool, seal: str = "", names: tuple[str, ...] = ("cap",)
) -> None:
    """Cytons are being recorded; `seal`: further lines of that section."""
    for name in names:
        box.device(name, "openbci")
        box.emulate(name, "cyton", channels=8)
    box.write_config(uplink=f"enabled = false\n[seal]\nenabled = {str(is_sealed).lower()}\n{seal}")
    box.start()
    for name in names:
        box.until_streaming(f"{name}-eeg", 30)
    box.ask("record", name="night")
    for name in names:
        recorded(box, 250, f"{name}-eeg")


def recorded(box: Box, more: int, stream: str = STREAM) -> None:
    """So many rows more are durable. A worker that has just been started tells of none yet."""
    box.until(lambda: box.stream(stream).get("durable"), 30, f"durable rows of {stream}")
    goal = int(box.stream(stream)["durable"]) + more
    box.until(lambda: int(box.stream(stream).get("durable") or 0) >= goal, 30, f"{more} rows")


def kill_acquire(box: Box, names: tuple[str, ...] = ("cap",)) -> None:
    """All at once; returns when each has a successor."""
    workers = {name: box.worker(f"acquire:{name}")["pid"] for name in names}
    for pid in workers.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in workers.items():
        box.until(
            lambda name=name, pid=pid: (  # type: ignore[misc]
                box.worker(f"acquire:{name}").get("pid") not in {None, pid}
            ),
            20,
            "a new worker",
        )


def in_journal(box: Box, recordings: Path) -> int:
    """Rows of the night that lie in a journal and in no chunk yet."""
    return int(box.verify(recordings, status=None)["night"][STREAM]["in_journal"])
