"""Numbers on the command line: what is none, or out of range, is refused by name and not by a traceback."""

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
