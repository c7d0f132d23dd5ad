"""The project as the structure tests see it: tracked files, our sources, our pages."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "brainforge_edge"
DOCS = PACKAGE / "docs"


def tracked() -> list[Path]:
    """Files that belong to the project: git's, or everything when there is no git here."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        skipped = {".venv", ".venv-test", "__pycache__", "build", ".git"}
        paths = [p for p in ROOT.rglob("*") if not skipped & set(p.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def sources() -> list[Path]:
    """Our own Python modules, tests left out."""
    return sorted(PACKAGE.rglob("*.py"))


def run_python(code: str) -> str:
    """Run code in a fresh interpreter; its stdout."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
