"""Files stay small, names stay in the vocabulary, the top level stays as it is."""

import ast
import re
import statistics
from pathlib import Path

from tests.structure.tree import PACKAGE, ROOT, sources, tracked

TOP_LEVEL = {
    "LICENSE",
    "README.md",
    "brainforge_edge",
    "constraints.txt",
    "ext",
    "firmware-tools",
    "image",
    "pyproject.toml",
    "systemd",
    "tests",
    "udev",
}
FORBIDDEN_MODULES = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}
FORBIDDEN_CLASS = re.compile(r"(Manager|Handler|Helper|Util|Utils|Impl)$|^Base[A-Z]")


def _lines(paths: list[Path]) -> dict[str, int]:
    return {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in paths
    }


def test_the_top_level_holds_nothing_else_but_dot_files() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_the_command_that_runs_the_tests_names_every_folder_of_tests() -> None:
    command = (ROOT / "tests" / "run").read_text(encoding="utf-8")
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for path in tracked()
        if re.fullmatch(r"(test_.*|.*_test)\.py", path.name)
    }
    assert folders
    assert {folder for folder in folders if folder not in command} == set()


def test_no_file_is_longer_than_400_lines() -> None:
    native = [path for path in (ROOT / "ext").iterdir() if path.suffix in {".pyx", ".pxd"}]
    long = {name: n for name, n in _lines(sources() + native).items() if n > 400}
    assert not long


def test_the_median_file_has_at_most_150_lines_and_nine_in_ten_at_most_280() -> None:
    lengths = sorted(
        n for name, n in _lines(sources()).items() if not name.endswith("__init__.py") or n > 1
    )
    assert statistics.median(lengths) <= 150
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 280


def test_no_module_is_a_drawer_for_everything() -> None:
    bad = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.stem in FORBIDDEN_MODULES or path.parent.name in FORBIDDEN_MODULES
    ]
    assert not bad


def test_no_class_is_a_manager_handler_or_base() -> None:
    bad = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and FORBIDDEN_CLASS.search(node.name)
    ]
    assert not bad


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if (text := path.read_text(encoding="utf-8")) and not ast.get_docstring(ast.parse(text))
    ]
    assert not silent


def test_every_package_folder_is_a_package() -> None:
    folders = {path.parent for path in sources()}
    assert all((folder / "__init__.py").exists() for folder in folders)
    assert (PACKAGE / "py.typed").exists()


def test_what_commands_make_is_made_in_one_place_which_knows_whose_it_is() -> None:
    """A command of root's that made a file elsewhere would leave the daemon one that it cannot read."""
    others = {"rings/ring.py", "devices/ble_adapter.py"}  # of the daemon alone
    making = {
        path.relative_to(PACKAGE).as_posix()
        for path in sources()
        if path.is_relative_to(PACKAGE) and "O_CREAT" in path.read_text(encoding="utf-8")
    }
    assert {name for name in making - others if not name.startswith("cloud/")} == {
        "storage/files.py"
    }
