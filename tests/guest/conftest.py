"""One guest for all tests of this folder; a new one after a test that broke it."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import kernel
from tests.guest.guest import PROJECT, Guest

NEEDED = (
    "qemu-system-x86_64",
    "busybox",
    "depmod",
    "udevadm",
    "systemctl",
    "dbus-daemon",
    "/usr/libexec/bluetooth/bluetoothd",
)


class Bench:
    """A guest, and the Cyton on the host that its FTDI adapter leads to."""

    def __init__(self, work: Path) -> None:
        self.cyton_ledger = work / "cyton.json"
        link = work / "cyton"
        found = kernel.fetch(kernel.cache_folder())
        self._emulator = subprocess.Popen(
            [
                sys.executable, "-m", "brainforge_edge.cli.main", "emulate", "cyton",
                "--link", str(link), "--ledger", str(self.cyton_ledger), "--channels", "8",
            ],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until = time.monotonic() + 20
            while not link.exists():
                assert time.monotonic() < until, "the emulated Cyton did not start"
                time.sleep(0.05)
            self.guest = Guest(found, work, ftdi=link)
        except BaseException:
            self._end_emulator()
            raise
        print(f"guest: Linux {found.release} up after {self.guest.boot_s:.0f} s")

    def _end_emulator(self) -> None:
        self._emulator.terminate()
        self._emulator.wait(10)

    def close(self) -> None:
        self.guest.close()
        self._end_emulator()


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One boot serves all. What the guest said is kept if a test failed."""
    missing = [name for name in NEEDED if kernel.command(name) is None]
    if missing:
        pytest.skip(f"a guest needs {', '.join(missing)}: tests/run --guest installs them")
    work = Path(tempfile.mkdtemp(prefix="bf-guest-"))
    opened = Bench(work)
    try:
        yield opened
    finally:
        opened.close()
        if request.session.testsfailed:
            print(f"guest: its console is in {opened.guest.console}")
        else:
            shutil.rmtree(work)


@pytest.fixture
def guest(bench: Bench) -> Iterator[Guest]:
    assert bench.guest.is_alive, "the guest ended in an earlier test"
    bench.guest.clear()
    yield bench.guest
    bench.guest.clear()
