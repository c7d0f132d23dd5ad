"""The least that a recorder of these threads can be: what `record` is held against.

    python -m tests.benchmarks.barerecorder LINK FILE SECONDS

Opens an emulated helmet on a terminal as the daemon does, then only moves bytes: a pull thread reads and rests
between frames, a record thread is woken for each frame and writes as many bytes as came, a sync thread
syncs each 80 ms. It finds no frame, checks, decodes and keeps nothing. Printed: CPU by thread, % of a core.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.threads import Bell, named
from brainforge_edge.devices import opm
from brainforge_edge.devices.link import FdTransport
from brainforge_edge.emulators.bfp_kinds import HELMET_SAMPLES
from tests.benchmarks.processes import threads_cpu_s

FRAME_BYTES = 24 + 16 + 39 + 3 * 306 * HELMET_SAMPLES + 4
REST_S = 0.005
SYNC_S = 0.08
FILE_BYTES = 32 << 20  # written over and over, as a journal is
SETTLE_S = 2.0
START_S = 20.0


class _Recorder:
    def __init__(self, fd: int, file: int) -> None:
        self._fd = fd
        self._file = file
        self._bell = Bell()
        self._buffer = memoryview(bytearray(2 * FRAME_BYTES))
        self._got = 0
        self.is_over = False

    def pull(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not self.is_over:
            poll.poll(1000)
            try:
                n = os.readv(self._fd, [self._buffer[self._got % FRAME_BYTES :]])
            except BlockingIOError:
                continue
            before, self._got = self._got, self._got + n
            if self._got // FRAME_BYTES > before // FRAME_BYTES:
                self._bell.ring()
                time.sleep(REST_S)

    def record(self) -> None:
        written = at = 0
        while not self.is_over:
            self._bell.wait(1.0)
            n = self._got - written
            if n:
                at = at if at + n < FILE_BYTES else 0
                os.pwrite(self._file, self._buffer[: min(n, len(self._buffer))], at)
                written, at = written + n, at + n

    def sync(self) -> None:
        while not self.is_over:
            time.sleep(SYNC_S)
            os.fdatasync(self._file)


def record(link: Path, path: Path, seconds: float) -> dict[str, float]:
    driver = opm.make_driver(opm.Config(port=str(link)), device="bare", clock=SystemClock())
    driver.open()
    transport = driver._transport
    assert isinstance(transport, FdTransport)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.write(file, bytes(FILE_BYTES))
    os.fdatasync(file)
    recorder = _Recorder(transport._fd, file)
    threads = [named(each, getattr(recorder, each)) for each in ("pull", "record", "sync")]
    for thread in threads:
        thread.start()
    time.sleep(SETTLE_S)
    before, began = threads_cpu_s(os.getpid()), time.monotonic()
    time.sleep(seconds)
    after, length = threads_cpu_s(os.getpid()), time.monotonic() - began
    recorder.is_over = True
    for thread in threads:
        thread.join()
    driver.close()
    return {name: 100 * (cpu - before.get(name, 0.0)) / length for name, cpu in after.items()}


def measured(folder: Path, seconds: float) -> dict[str, float]:
    """In processes of their own, as the daemon's are."""
    link = folder / "bare-helmet"
    emulate = [
        sys.executable,
        "-m",
        "brainforge_edge.cli.main",
        "emulate",
        "opm",
        "--link",
        str(link),
    ]
    emulator = subprocess.Popen(emulate, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_S
        while not link.exists():
            if time.monotonic() > until or emulator.poll() is not None:
                raise RuntimeError("the emulated helmet did not start")
            time.sleep(0.05)
        command = [sys.executable, "-m", "tests.benchmarks.barerecorder", str(link)]
        done = subprocess.run(
            [*command, str(folder / "bare"), str(seconds)], stdout=subprocess.PIPE, check=True
        )
    finally:
        emulator.terminate()
        emulator.wait(10)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(record(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))))
    else:
        with tempfile.TemporaryDirectory() as work:
            print(json.dumps(measured(Path(work), 10.0)))
