"""Debian's kernel and an initramfs for the guest. Runs in: the test process.

The package is only unpacked, below the user's cache folder, once for each version.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")  # to reach the host's root
_SBIN = "/usr/sbin:/sbin"


class Kernel(NamedTuple):
    """An unpacked kernel package."""

    release: str
    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.folder / "lib" / "modules" / self.release


def command(name: str) -> str | None:
    """Path of a program, those for root included."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "brainforge-edge" / "guest"


def fetch(cache: Path) -> Kernel:
    """The kernel that `linux-image-amd64` stands for, unpacked; downloaded if it is not there yet.

    A machine that cannot ask apt takes what the cache holds.
    """
    asked = _run("apt-cache", "depends", "linux-image-amd64", check=False)
    named = re.search(r"Depends: linux-image-(\S+)", asked)
    if named is None:
        held = sorted(path for path in cache.glob("linux-*") if path.is_dir())
        if not held:
            message = f"apt knows no linux-image-amd64 and {cache} is empty: run apt-get update"
            raise FileNotFoundError(message)
        return Kernel(held[-1].name.removeprefix("linux-"), held[-1])
    release = named.group(1)
    kernel = Kernel(release, cache / f"linux-{release}")
    if not kernel.folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            _unpack(release, Path(work))
            (Path(work) / "unpacked").replace(kernel.folder)
    return kernel


def _unpack(release: str, work: Path) -> None:
    _run("apt-get", "download", "-q", f"linux-image-{release}", cwd=work)
    (package,) = work.glob("*.deb")
    unpacked = work / "unpacked"
    _run("dpkg-deb", "--extract", str(package), str(unpacked))
    _run("depmod", "-b", str(unpacked), release)


def make_initramfs(kernel: Kernel, path: Path, facts: dict[str, str]) -> None:
    """busybox, `init.sh` and the modules that reach the host's root; `facts` become shell variables."""
    root = path.with_suffix(".d")
    for folder in ("bin", "lib", "proc", "sys", "dev", "lower", "rw", "new"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    busybox = command("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "busybox")
    shutil.copy(Path(__file__).with_name("init.sh"), root / "init")
    (root / "init").chmod(0o755)
    for number, module in enumerate(_closure(kernel.modules)):
        shutil.copy(module, root / "lib" / f"{number:02d}-{module.name}")
    lines = [f"{name}='{value}'" for name, value in facts.items()]
    (root / "facts").write_text("\n".join([*lines, ""]), encoding="utf-8")
    names = "\n".join(str(entry.relative_to(root)) for entry in sorted(root.rglob("*")))
    with path.open("wb") as file:
        subprocess.run(
            [busybox, "cpio", "-o", "-H", "newc"],
            cwd=root,
            input=names.encode(),
            stdout=file,
            stderr=subprocess.PIPE,
            check=True,
        )
    shutil.rmtree(root)


def _closure(modules: Path) -> list[Path]:
    """MODULES and all that they need, each after what it needs."""
    needs: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text(encoding="utf-8").splitlines():
        place, _, rest = line.partition(":")
        name = Path(place).name.partition(".")[0]
        places[name] = place
        needs[name] = [Path(other).name.partition(".")[0] for other in rest.split()]
    ordered: list[str] = []

    def add(name: str) -> None:
        for other in needs[name]:
            add(other)
        if name not in ordered:
            ordered.append(name)

    for name in MODULES:
        add(name)
    return [modules / places[name] for name in ordered]


def _run(name: str, *arguments: str, cwd: Path | None = None, check: bool = True) -> str:
    program = command(name)
    if program is None:
        message = f"there is no {name} here"
        raise FileNotFoundError(message)
    done = subprocess.run(
        [program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )
    if check and done.returncode:
        message = (
            f"{name} {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}"
        )
        raise RuntimeError(message)
    return done.stdout
