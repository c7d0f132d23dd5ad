"""Numbers on the command line: what is none, or out of range, is refused by name and not by a traceback."""

from pathlib import Path

import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import ExitStatus


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "1e30", "abc"])
@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--timeout", ["stop"]),
        ("--duration", ["mark", "eyes closed"]),
        ("--preroll", ["record"]),
        ("--seconds", ["demo"]),
        ("--speed", ["emulate", "opm", "--link", "x"]),
        ("--sfreq", ["emulate", "opm", "--link", "x"]),
        ("--seed", ["emulate", "opm", "--link", "x"]),
        ("--seconds", ["emulate", "opm", "--link", "x"]),
        ("--channels", ["emulate", "opm", "--link", "x"]),
        ("--fifo-s", ["emulate", "opm", "--link", "x"]),
    ],
)
def test_a_number_that_is_none_is_refused_with_the_name_of_its_option(
    option: str, arguments: list[str], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, option, number]) == ExitStatus.USAGE
    assert option in capsys.readouterr().err


def test_an_aggregator_whose_root_is_a_file_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    root.touch()
    assert main(["cloud", "run", "--root", str(root)]) == ExitStatus.STORAGE
    assert "cannot make the folder" in capsys.readouterr().err
