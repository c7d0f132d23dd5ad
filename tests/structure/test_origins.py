"""No tracked file says where packages come from, or where on some machine it was written."""

import re
from pathlib import Path

from tests.structure.tree import ROOT, tracked

TEXT = {".py", ".pyi", ".pyx", ".pxd", ".h", ".md", ".toml", ".txt", ".sh", ".sql", ".cfg", ""}
# Written apart, so that this file does not contain what it forbids.
INDEX_HOSTS = (
    "py" + "pi.org",
    "python" + "hosted.org",
    "deb.deb" + "ian.org",
    "security.deb" + "ian.org",
    "snapshot.deb" + "ian.org",
    "registry.npm" + "js.org",
    "artifact" + "ory",
    "index" + "-url",
    "--find" + "-links",
)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home/\w+|root|Users/\w+|opt/(?:pypi|wheels))/")
# The chroot's own paths, as they are inside it.
ALLOWED_PATHS = {"tests/structure/test_origins.py"}


def _texts() -> list[tuple[Path, str]]:
    return [
        (path.relative_to(ROOT), path.read_text(encoding="utf-8", errors="replace"))
        for path in tracked()
        if path.suffix in TEXT
    ]


def test_no_package_host_is_named() -> None:
    named = [
        f"{name}: {host}" for name, text in _texts() for host in INDEX_HOSTS if host in text.lower()
    ]
    assert not named


def test_no_machine_path_is_written() -> None:
    written = [
        f"{name}: {match.group()}"
        for name, text in _texts()
        if str(name) not in ALLOWED_PATHS
        for match in MACHINE_PATH.finditer(text)
    ]
    assert not written
