"""`emulate` on the command line: what it refuses, and that it takes nothing which is not its own."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from brainforge_edge.core.errors import ExitStatus
from tests.faults.box import check_refusal, cli

CONFIG = 10


def emulate(kind: str, *options: object) -> tuple[object, ...]:
    return ("emulate", kind, "--seconds", "0.05", *options)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _file(path: Path) -> Path:
    path.write_text("somebody's")
    return path


def _in_a_file(path: Path) -> Path:
    return _file(path) / "x"


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (_folder, "it is a folder"),
    "here": (lambda _: ".", "it is a folder"),
    "the root": (lambda _: "/", "it is a folder"),
    "below a file": (_in_a_file, "file exists"),
    "a name too long": (lambda path: path / ("x" * 300), "file name too long"),
    "where no file can be": (lambda _: "/proc/x", ""),
    "a pipe": (_pipe, "something else lies there"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("option", ["--link", "--ledger"])
def test_a_place_that_cannot_be_written_is_refused_by_name(
    option: str, place: str, tmp_path: Path
) -> None:
    make, why = PLACES[place]
    where = make(tmp_path / "x")
    others = () if option == "--link" else ("--link", tmp_path / "port")
    result = cli(*emulate("opm", "--channels", "3", *others, option, where))
    is_ledger_late = option == "--ledger" and place == "where no file can be"
    if option == "--ledger" and place == "a pipe":  # refused before it could be waited for
        check_refusal(result, ExitStatus.USAGE, str(where), "is a pipe")
    else:
        check_refusal(result, 12 if is_ledger_late else CONFIG, str(where), why)
    assert not (tmp_path / "port").is_symlink()
    assert place != "a pipe" or (tmp_path / "x").is_fifo()


def test_a_file_of_somebody_is_not_replaced_by_the_port(tmp_path: Path) -> None:
    other = _file(tmp_path / "thesis.txt")
    check_refusal(cli(*emulate("opm", "--link", other)), CONFIG, "something else lies there")
    assert other.read_text() == "somebody's"


def test_a_port_that_an_earlier_emulator_left_is_replaced(tmp_path: Path) -> None:
    link, ledger = tmp_path / "new" / "port", tmp_path / "also" / "new" / "ledger.json"
    link.parent.mkdir()
    link.symlink_to("/dev/pts/none")
    result = cli(*emulate("opm", "--channels", "3", "--link", link, "--ledger", ledger))
    assert result.returncode == 0, result.stderr
    assert '"final": true' in ledger.read_text()
    assert not link.is_symlink()


def test_port_and_ledger_are_two_places(tmp_path: Path) -> None:
    place = tmp_path / "x"
    result = cli(*emulate("cyton", "--link", place, "--ledger", f"{tmp_path}/./x"))
    check_refusal(result, CONFIG, "the port is to appear there")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--channels", "3"), ("8, or 16",)),
        (("--sfreq", "100"), ("its rate is fixed", "--speed")),
        (("--replay", "."), ("it is not a file",)),
    ],
)
def test_what_a_cyton_cannot_be_is_refused(
    options: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    check_refusal(cli(*emulate("cyton", "--link", tmp_path / "x", *options)), CONFIG, *words)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("opm", ("--fault", "nose@1"), ("'nose@1'", "laser")),
        ("opm", ("--fault", "laser"), ("'laser'", "NAME@SECONDS")),
        ("cyton", ("--fault", "laser@1"), ("only devices with BFP/1",)),
        ("freeeeg32", ("--fault", "boot@1"), ("only devices with BFP/1",)),
        ("fnirs", ("--channels", "10"), ("a multiple of 4",)),
        ("accel_hat", ("--channels", "4"), ("a multiple of 3",)),
        ("accel_hat", ("--replay", "."), ("a file is one",)),
        ("fnirs", ("--sfreq", "20"), ("its rate is fixed",)),
    ],
)
def test_what_a_device_of_ours_cannot_be_is_refused(
    kind: str, options: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    check_refusal(cli(*emulate(kind, "--link", tmp_path / "x", *options)), CONFIG, *words)


NOT_ITS_OWN = [
    ("neurosky", "--channels", "5"),
    ("freeeeg32", "--channels", "5"),
    ("freeeeg32", "--serial-number", "Q"),
    ("freeeeg32", "--kohm", "4"),
    ("cyton", "--serial-number", "Q"),
    ("cyton", "--startup-s", "2"),
    ("fnirs", "--cold"),
    ("accel_hat", "--kohm", "5"),
    ("opm", "--name", "OMP_Helmet"),  # also what is the default
    ("opm", "--type", "EEG"),
    ("opm", "--source-id", "x"),
    ("opm", "--format", "int32"),
    ("opm", "--drop", "1", "2"),
    ("opm", "--clock-offset", "1"),
]


@pytest.mark.parametrize(("kind", "option", "values"), [(k, o, v) for k, o, *v in NOT_ITS_OWN])
def test_an_option_that_the_kind_does_not_have_is_refused(
    kind: str, option: str, values: list[str], tmp_path: Path
) -> None:
    result = cli(*emulate(kind, "--link", tmp_path / "x", option, *values))
    check_refusal(result, CONFIG, f"the {kind} was not started", f"{option} is only for")
    assert not (tmp_path / "x").is_symlink()


@pytest.mark.parametrize(
    "options",
    [
        ("--link", "x"),
        ("--port", "x"),
        ("--fault", "boot@1"),
        ("--kohm", "5"),
        ("--cold",),
        ("--serial-number", "x"),
        ("--fifo-s", "1"),
        ("--rate-error", "0.01"),
    ],
)
def test_an_option_that_a_stream_does_not_have_is_refused(options: tuple[str, ...]) -> None:
    check_refusal(cli(*emulate("lsl", *options)), CONFIG, "the lsl was not started", options[0])


@pytest.mark.parametrize(
    "options",
    [
        ("--name", ""),
        ("--name", "\udcff"),
        ("--type", "\udcff"),
        ("--source-id", "\udcff"),
        ("--clock-offset", "nan"),
        ("--clock-offset", "1e308"),
        ("--drop", "-1", "2"),
        ("--drop", "1", "-2"),
    ],
)
def test_what_no_stream_can_say_is_refused_with_the_name_of_its_option(
    options: tuple[str, ...],
) -> None:
    check_refusal(cli(*emulate("lsl", *options)), 2, options[0], "--help")


@pytest.mark.parametrize("kind", ["cyton", "freeeeg32", "neurosky"])
@pytest.mark.parametrize("link", ["tcp://:0", "udp://:0"])
def test_a_device_without_a_network_link_does_not_listen(kind: str, link: str) -> None:
    check_refusal(cli(*emulate(kind, "--link", link)), CONFIG, link, "opm, fnirs, accel_hat")


@pytest.mark.parametrize("number", ["99999", "9" * 5000])
def test_a_port_number_out_of_range_is_called_so(number: str) -> None:
    check_refusal(cli(*emulate("opm", "--link", f"tcp://:{number}")), CONFIG, "out of range")
    check_refusal(cli(*emulate("opm", "--link", "tcp://:x")), CONFIG, "tcp://HOST:PORT")


def test_an_address_that_cannot_be_listened_at_is_refused_by_name() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        check_refusal(cli(*emulate("opm", "--link", taken)), CONFIG, taken, "in use")
    check_refusal(cli(*emulate("opm", "--link", "udp://:70000")), CONFIG, "udp://:70000")
    check_refusal(cli(*emulate("opm", "--link", "tcp://192.0.2.1:0")), CONFIG, "192.0.2.1")
