"""A sealed recording of four participants as a dataset, and one of them erased from it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from brainforge_edge.cli.export import export
from tests.unit.bids_schema import faults
from tests.unit.erasure_material import PEOPLE, Make, erase, info_of
from tests.unit.recorder_material import rows_of


def _export(folder: Path, keys: Path, target: Path) -> int:
    arguments = [str(folder), "--format", "bids", "--output", str(target), "--keys", str(keys)]
    return CliRunner().invoke(export, arguments).exit_code


def _read(target: Path, who: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mne_bids import BIDSPath, read_raw_bids  # noqa: PLC0415

        path = BIDSPath(
            root=target, subject=who, session="01", task="unspecified", datatype="eeg", run="01",
            acquisition=f"head{who}eeg", suffix="eeg", extension=".vhdr",
        )  # fmt: skip
        return read_raw_bids(path, verbose="ERROR").load_data(verbose="ERROR")


def test_an_erasure_takes_the_participants_files_out_of_the_dataset_and_no_others(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    target = tmp_path / "dataset"
    assert _export(made.folder, made.private / "box", target) == 0
    assert faults(target) == []
    before = {path for path in target.rglob("*") if path.is_file()}
    for who in PEOPLE:
        info = info_of(who)
        found = np.rint(_read(target, who).get_data() / info.channels[0].scale).astype(int)
        assert np.array_equal(found, rows_of(info, 0, 320).T)
    erasure = erase(made)
    gone = before - {path for path in target.rglob("*") if path.is_file()}
    mine = {path for path in before if "sub-p2" in path.parts}
    assert gone == mine
    assert len(mine) == 7
    assert not [each for each in erasure.not_reached if each.kind == "export"]


def test_a_participant_who_was_erased_is_left_out_and_the_others_are_there(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    erase(made)
    assert _export(made.folder, made.private / "box", tmp_path / "dataset") == 0
    left = {path.name for path in (tmp_path / "dataset").glob("sub-*")}
    assert left == {"sub-p1", "sub-p3", "sub-p4"}
