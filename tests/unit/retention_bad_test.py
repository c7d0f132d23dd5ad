"""Files of a recording that say impossible things, or cannot be read: named, and no other recording suffers."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder import freed as freed_module
from brainforge_edge.recorder import freeing
from brainforge_edge.recorder.catalog import rebuilt_streams
from brainforge_edge.recorder.chaining import extend_chain
from brainforge_edge.recorder.digest import file_digest
from brainforge_edge.recorder.exports import EXPORTS_FILE, read_notes
from brainforge_edge.recorder.freed import read_freed, read_gone
from brainforge_edge.recorder.segment import next_ordinal
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.retention_material import EEG, Stand


def closed(root: Path, n: int = 2, **options: Any) -> Stand:
    stand = Stand(root, n=n, **options)
    stand.close()
    stand.attest_all()
    return stand


def changed(path: Path, pattern: bytes, value: bytes) -> None:
    """In the first line."""
    data, n = re.subn(pattern, lambda _: value, path.read_bytes(), count=1)
    assert n == 1
    path.write_bytes(data)


BAD: list[tuple[bytes, bytes]] = [
    (rb'"size":\d+', b'"size":-1'),
    (rb'"size":\d+', b'"size":36893488147419103232'),
    (rb'"stream_id":"', rb'"stream_id":"\u0000'),
    (rb'"segment":"', rb'"segment":"\u0000'),
    (rb'"segment":"', b'"segment":"../../'),
    (rb'"segment":"', b'"segment":"' + b"0" * 5000),
]


@pytest.mark.parametrize(("pattern", "value"), [*BAD, (rb'"product":\d+', b'"product":-1')])
def test_a_chain_with_an_impossible_line_frees_nothing_and_is_named(
    tmp_path: Path, pattern: bytes, value: bytes
) -> None:
    bad, good = closed(tmp_path, name="bad"), closed(tmp_path, name="good", seed=2)
    changed(bad.folder / "chain", pattern, value)
    assert not bad.retention().once().errors
    assert (len(bad.here), good.here) == (2, [])
    assert any("the chain does not hold" in problem for problem in bad.account().problems)
    assert list(extend_chain(bad.folder, bad.disk))  # of the line that is none
    assert any("the chain does not hold" in problem for problem in bad.account().problems)
    assert not bad.retention().once().freed


@pytest.mark.parametrize(
    ("pattern", "value"),
    [*BAD, (rb'"held":\[\[1,0', b'"held":[[1,-1'), (rb'"number":\d+', b'"number":1e400')],
)
def test_an_impossible_line_in_freed_is_no_evidence(
    tmp_path: Path, pattern: bytes, value: bytes
) -> None:
    bad = closed(tmp_path)
    bad.retention().once()
    changed(bad.folder / "freed", pattern, value)
    assert not bad.retention().finish().errors
    assert not bad.retention().once().errors
    gone = [text for text in bad.account().problems if "in the chain and not here" in text]
    assert len(gone) == 1
    assert "0001.seg" in gone[0]
    assert [line.segment for line in read_freed(bad.folder, bad.disk)] == ["0002.seg"]
    assert rebuilt_streams(bad.recordings, bad.disk)
    assert next_ordinal(bad.folder / EEG.stream_id, bad.disk) == 3


def test_digits_that_are_no_number_are_no_segment(tmp_path: Path) -> None:
    bad = closed(tmp_path)
    bad.retention().once()
    changed(bad.folder / "freed", rb"0001\.seg", "²¹.seg".encode())
    assert next_ordinal(bad.folder / EEG.stream_id, bad.disk) == 3


def test_a_path_that_no_call_takes_is_told_of_in_exports(tmp_path: Path) -> None:
    stand = closed(tmp_path)
    note = dict.fromkeys(("format", "stream_id"), "") | {
        "path": "/a\0b", "participants": [], "utc_ns": 1, "size": 1, "mtime_ns": 1
    }  # fmt: skip
    (stand.folder / EXPORTS_FILE).write_bytes(msgspec.json.encode([note]))
    with pytest.raises(StorageError, match="cannot be read") as refused:
        read_notes(stand.folder, stand.disk)
    assert refused.value.code == "storage.exports_damaged"


def unreadable(call: str, name: str) -> type[UnsyncedDisk]:
    """A disk that does not give one file or folder back."""

    class Failing(UnsyncedDisk):
        def syscall(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
            if what == call and str(args[0]).endswith(name):
                raise OSError(5, "Input/output error")
            return super().syscall(what, function, *args)

    return Failing


@pytest.mark.parametrize(
    ("call", "name"),
    [("open", f"bad/{file}") for file in ("recording.json", "chain", "attested", "freed")]
    + [("listdir", "/bad"), ("listdir", f"bad/{EEG.stream_id}")],
)
def test_what_cannot_be_read_of_one_recording_stops_no_other(
    tmp_path: Path, call: str, name: str
) -> None:
    bad, good = closed(tmp_path, name="bad"), closed(tmp_path, name="good", seed=2)
    (bad.folder / "freed").touch()
    outcome = bad.retention(unreadable(call, name)()).once()
    assert {error.code for error in outcome.errors} == {"storage.io"}
    assert all("bad" in str(error) for error in outcome.errors)
    assert list(outcome.freed) == ["good"]
    assert (len(bad.here), good.here) == (2, [])


@pytest.mark.parametrize(
    ("pattern", "value", "why"),
    [
        (rb"\[\[1,0,80\]\]", b"[[1,0,20]]", "signed for other rows"),
        (rb"\[\[1,0,80\]\]", b"[[1,0,9999]]", "signed for other rows"),
        (rb"\[\[1,0,80\]\]", b"[[2,0,80]]", "signed for other rows"),
        (rb"\[\[1,0,80\]\]", b"[]", "signed for other rows"),
        (rb'"named":\[\]', b'"named":[[1,80,160]]', "gaps that were not before its rows"),
        (rb'"named":\[\]', b'"named":[[2,0,80]]', "gaps that were not before its rows"),
    ],
)
def test_rows_and_gaps_that_a_line_tells_otherwise_than_what_was_signed_are_no_evidence(
    tmp_path: Path, pattern: bytes, value: bytes, why: str
) -> None:
    stand = closed(tmp_path, n=3)
    stand.retention().once()
    assert stand.account().is_clean
    changed(stand.folder / "freed", pattern, value)
    account = stand.account()
    (problem,) = [text for text in account.problems if "freed without evidence" in text]
    assert "0001.seg" in problem
    assert why in problem
    assert [line.segment for line in account.streams[0].freed] == ["0002.seg", "0003.seg"]


def test_only_the_stream_of_markers_has_none_of_what_was_signed(tmp_path: Path) -> None:
    """Markers are counted as rows are, in receipts and in what is signed; they are none in an account."""
    stand = closed(tmp_path)
    stand.retention().once()
    line = stand.freed[0]
    (signed_rows,) = line.held
    bare = msgspec.structs.replace(line, held=())
    assert freed_module._fault_of_rows(bare, [signed_rows])
    markers = msgspec.structs.replace(bare, stream_id="markers")
    assert not freed_module._fault_of_rows(markers, [signed_rows])


@pytest.mark.parametrize("of_folder", [False, True])
def test_a_link_is_never_removed_nor_what_lies_behind_it(
    tmp_path: Path, *, of_folder: bool
) -> None:
    stand = closed(tmp_path / "box")
    path = stand.path(stand.chain[0])
    moved = path.parent if of_folder else path
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    errors = stand.retention().once().errors
    assert {error.code for error in errors} == {"storage.no_file"}
    assert all(error.remedy and "link" in error.why for error in errors)
    assert stand.here == (["0001.seg", "0002.seg"] if of_folder else ["0001.seg"])
    assert moved.is_symlink()
    assert (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["chain", "attested", "freed", "copied"])
def test_a_file_of_lines_beyond_measure_is_refused_and_the_others_go_on(
    tmp_path: Path, name: str
) -> None:
    bad, good = closed(tmp_path, name="bad"), closed(tmp_path, name="good", seed=2)
    with (bad.folder / name).open("ab") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    outcome = bad.retention().once()
    assert {error.code for error in outcome.errors} == {"storage.too_large"}
    assert f"bad/{name}" in str(outcome.errors[0])
    assert outcome.errors[0].remedy
    assert (len(bad.here), good.here) == (2, [])


def test_a_look_ends_where_there_is_no_room_for_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = closed(tmp_path, name="one"), closed(tmp_path, name="two", seed=2)

    class Full(UnsyncedDisk):
        def syscall(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
            if what == "pwrite":
                raise OSError(28, "No space left on device")
            return super().syscall(what, function, *args)

    hashed: list[Path] = []

    def digest(path: Path, *given: Any) -> Any:
        hashed.append(path)
        return file_digest(path, *given)

    monkeypatch.setattr(freeing, "file_digest", digest)
    retention = one.retention(Full())
    assert [error.code for error in retention.once().errors] == ["storage.full"]
    assert len(hashed) == 1
    assert (len(one.here), len(two.here)) == (2, 2)


def test_a_look_at_many_segments_reads_their_lines_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the work grows with the square of their number."""
    stand = closed(tmp_path, n=12)
    reads: Counter[str] = Counter()

    class Counting(UnsyncedDisk):
        def open(self, path: Path, mode: Any) -> int:
            reads[path.name] += mode == "read"
            return super().open(path, mode)

    listed: Counter[str] = Counter()
    retention = stand.retention(Counting())
    assert len(retention.once().freed["rec-1"]) == 12
    assert (reads["chain"], reads["attested"]) == (1, 1)
    assert reads["freed"] <= 1
    retention.once()
    assert reads["chain"] == 1, "nothing is here: nothing is read"
    monkeypatch.setattr(
        UnsyncedDisk,
        "names",
        lambda _, path: listed.update([path.name]) or sorted(p.name for p in path.iterdir()),
    )
    read_gone(stand.folder, UnsyncedDisk())
    assert listed[EEG.stream_id] == 1
