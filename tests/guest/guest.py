"""One virtual machine and the line to its agent. Runs in: the test process.

The guest sees the host's root read-only under a tmpfs, so it has the same Python, packages and code;
`out` is the one folder that it can write to. Plain emulation: a nested KVM may pass a probe and hang
before the first line of the kernel.
"""

import compileall
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.guest.kernel import Kernel, command, make_initramfs

PROJECT = Path(__file__).parents[2]
BOOT_S = 150.0
_QUIET = (  # nothing of what these do is looked at here
    "ldconfig.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-timesyncd.service",
    "systemd-random-seed.service",
    "systemd-update-done.service",
)
# Without a trusted counter each look at the clock is a system call and an exit from the emulation.
_CLOCK = "tsc=reliable clocksource=tsc"
_NO_DRIVERS = (
    "modprobe.blacklist=ata_generic,ata_piix,floppy,i2c_piix4,kvm,kvm_amd,kvm_intel,psmouse"
)


class GuestFailed(AssertionError):
    """A script did not succeed, or the guest did not answer; says all that is known."""


class Guest:
    """A booted machine; `run` runs a module of tests.guest.inside in it."""

    def __init__(self, kernel: Kernel, work: Path, *, ftdi: Path) -> None:
        self.work = work
        self.out = work / "out"
        self.out.mkdir()
        self.console = work / "console.log"
        self.boot_s = 0.0
        initramfs = work / "initramfs"
        facts = {
            "RELEASE": kernel.release,
            "MODULES": str(kernel.modules),
            "PROJECT": str(PROJECT),
            "VENV": sys.prefix,
            "BASE": sys.base_prefix,
            "PYTHON": f"python{sys.version_info.major}.{sys.version_info.minor}",
        }
        for folder in ("brainforge_edge", "tests"):  # the guest is slow at it and could not keep it
            compileall.compile_dir(PROJECT / folder, quiet=1)
        make_initramfs(kernel, initramfs, facts)
        started = time.monotonic()
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(work / "agent.sock"))
            listener.listen(1)
            listener.settimeout(20)
            self._log = (work / "qemu.log").open("wb")
            self._process = subprocess.Popen(
                self._command(kernel, initramfs, ftdi),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )
            try:
                self._line, _ = listener.accept()
            except TimeoutError:
                self._process.kill()
                raise self._failed("QEMU did not start") from None
        finally:
            listener.close()
        self._file = self._line.makefile("rb")
        self._answer("the guest's start", BOOT_S)
        self.boot_s = time.monotonic() - started

    def _command(self, kernel: Kernel, initramfs: Path, ftdi: Path) -> list[str]:
        qemu = command("qemu-system-x86_64")
        assert qemu is not None
        masks = [f"systemd.mask={unit}" for unit in _QUIET]
        line = ["console=ttyS0", "quiet", "panic=-1", "systemd.show_status=0", _NO_DRIVERS, _CLOCK]
        share = "security_model=none,multidevs=remap"
        return [
            "setpriv", "--pdeathsig", "KILL",  # no machine outlives a test run that was killed
            qemu, "-accel", "tcg", "-cpu", "max", "-m", "2G", "-smp", "2", "-no-reboot",
            "-display", "none", "-nodefaults", "-monitor", "none",
            "-kernel", str(kernel.image), "-initrd", str(initramfs),
            "-append", " ".join([*line, "systemd.unit=guest-agent.service", *masks]),
            "-serial", f"file:{self.console}",
            "-chardev", f"socket,id=agent,path={self.work / 'agent.sock'}", "-serial", "chardev:agent",
            "-virtfs", f"local,path=/,mount_tag=host0,id=host0,readonly=on,{share}",
            "-virtfs", f"local,path={self.out},mount_tag=out,id=out,{share}",
            "-device", "virtio-rng-pci", "-device", "qemu-xhci",
            "-chardev", f"serial,id=ftdi,path={ftdi}",
            "-device", "usb-serial,chardev=ftdi,serial=DM0TEST1",
        ]  # fmt: skip

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(self, name: str, *arguments: str, timeout_s: float) -> dict[str, Any]:
        """What `python -m tests.guest.inside.NAME` printed last in the guest, as JSON.

        GuestFailed if its status is not 0 or it takes longer; after that the guest is not used again.
        """
        request = {"name": name, "arguments": arguments, "timeout_s": timeout_s}
        self._line.sendall(json.dumps(request).encode() + b"\n")
        reply = self._answer(name, timeout_s + 30)
        if reply["status"] != 0:
            raise self._failed(
                f"{name} ended with {reply['status']}:\n{reply['stdout']}\n{reply['stderr']}"
                f"\n-- journal --\n{reply['journal']}",
                has_console=False,
            )
        result: dict[str, Any] = json.loads(reply["stdout"].splitlines()[-1])
        return result

    def clear(self) -> None:
        """Forget what scripts left in `out`."""
        for entry in self.out.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _answer(self, what: str, timeout_s: float) -> dict[str, Any]:
        self._line.settimeout(timeout_s)
        try:
            line = self._file.readline()
        except TimeoutError:
            self.close()
            raise self._failed(f"{what} took longer than {timeout_s:g} s") from None
        if not line:
            self.close()
            raise self._failed(f"the guest ended during {what}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _failed(self, what: str, *, has_console: bool = True) -> GuestFailed:
        parts = [what]
        for path in (self.work / "qemu.log", self.console) if has_console else ():
            text = path.read_text(errors="replace") if path.exists() else ""
            parts.append(f"-- {path} --\n" + "\n".join(text.splitlines()[-40:]))
        return GuestFailed("\n".join(parts))

    def close(self) -> None:
        """Power off: nothing in the guest is kept, so nothing has to be said to it."""
        self._process.kill()
        self._process.wait()
        self._file.close()
        self._line.close()
        self._log.close()
