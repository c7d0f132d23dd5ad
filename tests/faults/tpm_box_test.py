"""A box whose own key is in a TPM (swtpm): recovered with it, on this board and boot chain alone; recording never asks it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.recorder.sealing import KEYS_FOLDER
from tests.faults.box import Box, box_in, check_refusal, cli
from tests.faults.sealedbox import STREAM, in_journal, kill_acquire, recorded, recording_box
from tests.swtpm import SoftTpm, software_tpm


@pytest.fixture
def tpm() -> Iterator[SoftTpm]:
    with software_tpm() as made:
        yield made


def keys_of(box: Box) -> Path:
    return box.root / "box" / KEYS_FOLDER


def sealing_box(box: Box, tpm: SoftTpm, *pcrs: int, names: tuple[str, ...] = ("cap",)) -> None:
    """It records Cytons, sealed for a key in the TPM and for a recovery key that is elsewhere."""
    keys, away = keys_of(box), box.root / "away"
    bound = [word for pcr in pcrs for word in ("--pcr", pcr)]
    for words in ((keys, "--role", "box", "--tpm", "--tcti", tpm.tcti, *bound),
                  (away, "--role", "recovery")):  # fmt: skip
        made = cli("keys", "make", *words)
        assert made.returncode == 0, made.stderr
    recording_box(
        box,
        is_sealed=True,
        seal=f'box = "{keys / "box.pem"}"\ntoken = "{tpm.uri(keys / "box.tpm")}"\n'
        f'recovery = "{away / "recovery.pem"}"',
        names=names,
    )


def uri_of(box: Box, tpm: SoftTpm) -> str:
    return tpm.uri(keys_of(box) / "box.tpm")


def recording_error(box: Box, name: str = "cap") -> dict[str, Any]:
    error: dict[str, Any] | None = box.worker(f"acquire:{name}")["recording"]["error"]
    return error or {}


def killed_and_recording_on(box: Box) -> int:
    """Rows that were written before its acquire process was killed; it goes on, whatever its key does."""
    stream = box.verify(status=None)["night"][STREAM]
    kill_acquire(box)
    records_on(box)
    return int(stream["rows"] + stream["in_journal"])


def records_on(box: Box, stream: str = STREAM) -> None:
    """Rows of the new process are durable."""
    box.until_streaming(stream, 60)
    box.until(lambda: box.stream(stream).get("recorded"), 60, "the recording to go on")
    recorded(box, 250, stream)


def started_again(box: Box) -> None:
    assert box.daemon is not None
    assert box.end(box.daemon) == 0
    box.start()
    records_on(box)


def check_whole(box: Box, tpm: SoftTpm, before: int) -> None:
    """Nothing waits in a journal when the recording has ended, and every row opens with the TPM's key."""
    box.ask("stop")
    check_opened(opened_stream(box.recordings, uri_of(box, tpm)), before)


def verified(folder: Path, keys: object, *more: str) -> "subprocess.CompletedProcess[str]":
    return cli("verify", folder, "--keys", keys, *more)


def check_opened(stream: dict[str, Any], before: int) -> None:
    """All that was written before the kill is in chunks, and so is what came after it."""
    assert stream["clean"], stream
    assert (stream["in_journal"], stream["unopened"]) == (0, 0)
    assert before > 0
    assert stream["rows"] >= before + 100


def opened_stream(recordings: Path, keys: object, stream: str = STREAM) -> dict[str, Any]:
    """What `verify` says of the night with these keys."""
    (recording,) = json.loads(verified(recordings, keys, "--json").stdout)["recordings"]
    return next(s for s in recording["streams"] if s["stream_id"] == stream)


def test_what_a_killed_process_left_is_recovered_with_the_tpm(tmp_path: Path, tpm: SoftTpm) -> None:
    with box_in(tmp_path) as box:
        sealing_box(box, tpm, 7)
        before = killed_and_recording_on(box)
        assert recording_error(box) == {}
        check_whole(box, tpm, before)


@pytest.mark.slow
def test_four_processes_that_were_killed_at_once_recover_with_the_one_tpm(
    tmp_path: Path, tpm: SoftTpm
) -> None:
    names = ("cap", "cap2", "cap3", "cap4")
    with box_in(tmp_path) as box:
        sealing_box(box, tpm, 7, names=names)
        night = box.verify(status=None)["night"]
        kill_acquire(box, names)
        for name in names:
            records_on(box, f"{name}-eeg")
            assert recording_error(box, name) == {}
        box.ask("stop")
        for name in names:
            before = night[f"{name}-eeg"]["rows"] + night[f"{name}-eeg"]["in_journal"]
            check_opened(opened_stream(box.recordings, uri_of(box, tpm), f"{name}-eeg"), before)


def test_the_disk_holds_no_private_key_and_opens_on_no_other_board(
    tmp_path: Path, tpm: SoftTpm
) -> None:
    """Stolen while the box records: all of its files, and a TPM that is another one."""
    with box_in(tmp_path) as box, software_tpm() as other:
        sealing_box(box, tpm)
        box.until(lambda: in_journal(box, box.recordings) > 50, 30, "rows in the journal")
        stolen = tmp_path / "stolen"
        shutil.copytree(box.root / "box", stolen)
        box.ask("stop")
        files = [path for path in stolen.rglob("*") if path.is_file()]
        assert [path.name for path in files if b"PRIVATE KEY" in path.read_bytes()] == []
        assert sorted(path.name for path in (stolen / KEYS_FOLDER).iterdir()) == [
            "box.pem", "box.tpm",
        ]  # fmt: skip
        key = stolen / KEYS_FOLDER / "box.tpm"
        said = cli("repair", stolen / "recordings", "--keys", other.uri(key))
        check_refusal(said, ExitStatus.SECURITY, "another TPM", "recovery key")
        said = cli("repair", stolen / "recordings", "--keys", tpm.uri(key))  # with the board
        assert said.returncode == 0, said.stderr
        stream = opened_stream(stolen / "recordings", tpm.uri(key))
        assert (stream["in_journal"], stream["unopened"]) == (0, 0)
        assert stream["rows"] > 50


def test_a_box_whose_tpm_is_away_records_on_and_recovers_when_it_is_back(
    tmp_path: Path, tpm: SoftTpm
) -> None:
    with box_in(tmp_path) as box:
        sealing_box(box, tpm)
        tpm.stop()
        before = killed_and_recording_on(box)
        error = recording_error(box)
        assert error["code"] == "security.tpm_absent", error
        assert "no TPM answers" in error["why"]
        started_again(box)  # without it, too
        assert recording_error(box)["code"] == "security.tpm_absent"
        tpm.start()
        started_again(box)
        assert recording_error(box) == {}
        check_whole(box, tpm, before)


def test_a_box_whose_boot_chain_was_changed_records_on_and_the_recovery_key_opens_it(
    tmp_path: Path, tpm: SoftTpm
) -> None:
    with box_in(tmp_path) as box:
        sealing_box(box, tpm, 7)
        tpm.extend(7)
        before = killed_and_recording_on(box)
        error = recording_error(box)
        assert error["code"] == "security.tpm_policy", error
        box.ask("stop")
        assert box.daemon is not None
        assert box.end(box.daemon) == 0
        said = verified(box.recordings, uri_of(box, tpm))
        check_refusal(said, ExitStatus.SECURITY, "firmware", "recovery key")
        said = cli("repair", box.recordings, "--keys", box.root / "away")
        assert said.returncode == 0, said.stderr
        check_opened(opened_stream(box.recordings, box.root / "away"), before)
