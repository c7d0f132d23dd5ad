"""Paths that cannot be used: folders that this user may not enter, and pipes."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from brainforge_edge.cli import keys, release, verify
from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import ExitStatus
from tests.unit.retention_material import Stand

VERBS = (keys, release, verify)  # imported here: another user may not be able to
NOBODY = 65534


@pytest.fixture
def closed() -> Iterator[Path]:
    """A box whose root nobody but its owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="bf-closed-"))
    stand = Stand(folder / "root")
    stand.close()
    folder.chmod(0o755)
    stand.root.chmod(0o700)
    yield stand.root
    stand.root.chmod(0o700)
    shutil.rmtree(folder)


def as_another(root: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and stderr of a command of a user who may not enter `root`."""
    if os.geteuid() != 0:
        root.chmod(0)
    said = root.parent / "said"
    with said.open("w", encoding="utf-8") as file:
        child = os.fork()
        if child == 0:
            status = 99
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                errors = io.StringIO()
                with redirect_stderr(errors), redirect_stdout(io.StringIO()):
                    status = main(list(arguments))
                file.write(errors.getvalue())
                file.flush()
            finally:
                os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, said.read_text(encoding="utf-8")


@pytest.mark.parametrize("below", ["recordings", "recordings/rec-1"])
@pytest.mark.parametrize("verb", [["verify"], ["keys", "list"]])
def test_a_folder_that_may_not_be_entered_is_said_in_our_words(
    closed: Path, below: str, verb: list[str]
) -> None:
    status, said = as_another(closed, *verb, str(closed / below))
    assert status == ExitStatus.STORAGE
    assert "permission was refused" in said
    assert said.count("\n") == 1


def test_a_release_of_what_may_not_be_entered_is_refused_in_our_words(closed: Path) -> None:
    recording = str(closed / "recordings" / "rec-1")
    arguments = ["release", recording, "--medium", "/nowhere", "--confirm", "1"]
    status, said = as_another(closed, *arguments)
    assert status == ExitStatus.STORAGE
    assert "permission was refused" in said


def test_the_box_that_may_not_be_listed_is_refused(closed: Path) -> None:
    closed.chmod(0o711)
    (closed / "recordings").chmod(0o711)
    status, said = as_another(closed, "verify", str(closed))
    assert status == ExitStatus.USAGE
    assert "is not readable" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["erase", "sign", "PIPE", "--key", "none"],
        ["erase", "sign", "none", "--key", "PIPE"],
        ["export", "none", "--to", "PIPE"],
        ["release", "none", "--medium", "PIPE", "--confirm", "1"],
        ["verify", "none", "--signer", "PIPE"],
        ["erase", "run", "none", "--config", "PIPE"],
    ],
)
def test_a_pipe_is_refused_and_not_waited_for(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    words = [str(pipe) if word == "PIPE" else word for word in arguments]
    assert main(words) == ExitStatus.USAGE
    assert "is a pipe, not a file or folder" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as another user")
def test_recordings_that_may_not_be_listed_are_not_taken_for_none(closed: Path) -> None:
    closed.chmod(0o755)
    (closed / "recordings").chmod(0o700)
    status, said = as_another(closed, "verify", str(closed))
    assert status == ExitStatus.STORAGE
    assert "permission was refused" in said
