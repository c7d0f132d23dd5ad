"""Hand the host's pip configuration to a chroot: write its /etc/pip.conf, print the local paths it names.

Runs in: `tests/chroot/run`, with the host's python3. Nothing about any host is written here: all of it
is what `pip config list` says at run time.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path


def main() -> int:
    root = Path(sys.argv[1])
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    sections: dict[str, dict[str, str]] = defaultdict(dict)
    for line in listing.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.rpartition(".")
        # `:env:` comes from PIP_* variables: it wins over the files, as it does in pip.
        target = sections["global" if section == ":env:" else section]
        if section == ":env:" or name not in target:
            target[name] = str(ast.literal_eval(quoted))
    text = ""
    for section, values in sections.items():
        text += f"[{section}]\n"
        for name, value in values.items():
            text += f"{name} = " + "\n    ".join(value.split()) + "\n"
    (root / "etc/pip.conf").write_text(text)
    paths = {
        word.removeprefix("file://")
        for values in sections.values()
        for value in values.values()
        for word in value.split()
    }
    for path in sorted(paths):
        if path.startswith("/") and Path(path).exists():
            print(_served(Path(path)))
    return 0


def _served(path: Path) -> Path:
    """An index of pages that link to files beside it (`../files`) needs its parent."""
    return path.parent if path.name == "simple" else path


if __name__ == "__main__":
    sys.exit(main())
