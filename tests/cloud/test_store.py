"""ChunkStore alone: every sample once, whatever comes in whatever cut."""

import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainforge_edge.cli import main as cli
from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming, Outcome, Placed
from brainforge_edge.cloud.store.reader import StoreReader
from brainforge_edge.codec import registry
from brainforge_edge.core.errors import CloudError, ExitStatus, StorageError
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo
from brainforge_edge.core.wire import Range, StreamInventory
from brainforge_edge.recorder.chunk import Chunk, pack

LOG = bytes(range(16))
INFO = StreamInfo("opm-mag", "opm", 1000.0, Dtype.I24, (ChannelInfo("a"), ChannelInfo("b")))
ROWS = np.random.default_rng(1).integers(-(2**20), 2**20, (400, 2), dtype=np.int32)


def chunk(first: int, end: int, *, rows: NDArray[Any] | None = None, **fields: Any) -> bytes:
    part = ROWS[first:end] if rows is None else rows
    usual: dict[str, Any] = {
        "codec": Codec.PACKED, "dtype": Dtype.I24, "n_channels": 2, "n_samples": end - first,
        "log_id": LOG, "incarnation": 0, "stream_number": 1, "seq": first, "t_first_ns": 0,
        "sfreq": 1000.0, "body": registry.encode(Codec.PACKED, part, Dtype.I24),
    }  # fmt: skip
    return pack(Chunk(**(usual | fields)))


def descriptor(info: StreamInfo = INFO, **fields: Any) -> bytes:
    return chunk(
        0, 0, codec=Codec.DESCRIPTOR, dtype=0, n_channels=0,
        body=cbor2.dumps({"stream": msgspec.to_builtins(info)}), **fields,
    )  # fmt: skip


def open_store(root: Path, **options: Any) -> ChunkStore:
    store = ChunkStore(root, decode=registry.decode, **options)
    store.register("bed-1", LOG, [])
    return store


def put(store: ChunkStore, *chunks: bytes, stream: str = "opm-mag") -> list[Placed]:
    return store.put([Incoming("bed-1", stream, data) for data in chunks])


def read_back(root: Path) -> tuple[list[Range], NDArray[np.int32]]:
    reader = StoreReader(root, decode=registry.decode, pack=registry.pack_rows)
    parts = list(reader.iter_rows(LOG, "opm-mag"))
    assert sum(r.end - r.first for r, _ in parts) == sum(len(rows) for _, rows in parts)
    ranges = reader.ranges(LOG, "opm-mag")
    reader.close()
    rows = [rows for _, rows in parts]
    return ranges, np.concatenate(rows) if rows else np.empty((0, 2), np.int32)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = open_store(tmp_path)
    put(store, descriptor())
    yield store
    store.close()


def test_the_same_chunk_twice_is_a_duplicate(store: ChunkStore, tmp_path: Path) -> None:
    placed = put(store, chunk(0, 50), chunk(0, 50))
    assert [p.outcome for p in placed] == [Outcome.STORED, Outcome.DUPLICATE]
    assert put(store, chunk(0, 50, number=9))[0].outcome is Outcome.DUPLICATE
    assert read_back(tmp_path)[0] == [Range(0, 0, 50)]


def test_of_an_overlap_only_the_new_part_is_used(store: ChunkStore, tmp_path: Path) -> None:
    put(store, chunk(20, 40), chunk(60, 80))
    placed = put(store, chunk(0, 100))
    assert (placed[0].outcome, placed[0].rows) == (Outcome.PARTLY, 60)
    ranges, rows = read_back(tmp_path)
    assert ranges == [Range(0, 0, 100)]
    assert np.array_equal(rows, ROWS[:100])


def test_an_overlap_with_other_samples_goes_to_quarantine(
    store: ChunkStore, tmp_path: Path
) -> None:
    put(store, chunk(0, 50))
    other = ROWS[30:80].copy()
    other[3, 1] += 1
    bad = chunk(30, 80, rows=other)
    placed = put(store, bad)[0]
    assert (placed.outcome, placed.reason) == (Outcome.REFUSED, "conflict")
    (kept,) = (tmp_path / "store" / LOG.hex() / "quarantine").iterdir()
    assert kept.read_bytes() == bad
    assert read_back(tmp_path)[0] == [Range(0, 0, 50)]


def test_what_no_chunk_should_be_is_refused_with_a_reason(store: ChunkStore) -> None:
    flipped = bytearray(chunk(0, 50))
    flipped[150] ^= 1
    cases = {
        "crc": bytes(flipped),
        "malformed": chunk(0, 50)[:60],
        "unknown_stream": chunk(0, 50, log_id=bytes(16)),
        "wrong_stream": chunk(0, 50, stream_number=4),
    }
    for reason, data in cases.items():
        assert put(store, data)[0].reason == reason
    assert put(store, chunk(0, 50) + b"more")[0].reason == "malformed"
    assert put(store, chunk(0, 50, n_channels=3))[0].reason == "malformed"
    assert put(store, chunk(0, 50, dtype=77))[0].reason == "malformed"
    assert put(store, chunk(0, 50, seq=2**63))[0].reason == "malformed"
    assert put(store, chunk(0, 50), stream="cyton-eeg")[0].reason == "unknown_stream"
    assert put(store, descriptor(), stream="cyton-eeg")[0].reason == "wrong_stream"
    stranger = store.put([Incoming("bed-2", "opm-mag", chunk(0, 50))])
    assert stranger[0].reason == "unknown_stream"
    assert store.ranges(next(iter(store._streams))) == ()


def test_a_stream_number_belongs_to_one_stream(store: ChunkStore) -> None:
    other = StreamInfo("cyton-eeg", "cyton", 125.0, Dtype.I24, (ChannelInfo("x"),))
    assert put(store, descriptor(other), stream="cyton-eeg")[0].reason == "wrong_stream"
    assert store.register("bed-1", LOG, [StreamInventory("cyton-eeg", 1, ())]) == 1
    assert store.register("bed-1", LOG, [StreamInventory("cyton-eeg", 2, ())]) == 0


def test_bytes_beyond_the_catalogue_are_cut_at_start(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, descriptor(), chunk(0, 50))
    store.close()
    (pack_file,) = (tmp_path / "store").glob("*/*/*.pack")
    whole = pack_file.read_bytes()
    pack_file.write_bytes(whole + chunk(50, 100)[:400])
    (pack_file.parent / "0002.pack").write_bytes(b"not in the catalogue")
    store = open_store(tmp_path)
    assert store.cut_bytes == 400 + 20
    assert pack_file.read_bytes() == whole
    put(store, chunk(50, 100))
    store.close()
    assert read_back(tmp_path)[0] == [Range(0, 0, 100)]


def test_the_command_after_a_restore_raises_the_generation_of_a_store_at_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(tmp_path)
    assert cli.main(["cloud", "restored", "--root", str(tmp_path)]) == ExitStatus.CLOUD
    store.close()
    assert cli.main(["cloud", "restored", "--root", str(tmp_path), "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out) == {"ok": True, "generation": 1}
    store = open_store(tmp_path)
    assert store.generation == 1
    store.close()
    assert cli.main(["cloud", "restored", "--root", str(tmp_path / "no")]) == ExitStatus.CLOUD
    assert "is no store" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_pack_that_lost_bytes_is_named(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, descriptor(), chunk(0, 50))
    store.close()
    (pack_file,) = (tmp_path / "store").glob("*/*/*.pack")
    pack_file.write_bytes(pack_file.read_bytes()[:-1])
    with pytest.raises(StorageError, match="raise its generation"):
        open_store(tmp_path)


def test_packs_are_filled_one_after_another(tmp_path: Path) -> None:
    store = open_store(tmp_path, pack_bytes=1000)
    put(store, descriptor())
    for i in range(8):
        put(store, chunk(i * 50, i * 50 + 50))
    store.close()
    assert len(list((tmp_path / "store").glob("*/*/*.pack"))) > 2
    ranges, rows = read_back(tmp_path)
    assert ranges == [Range(0, 0, 400)]
    assert np.array_equal(rows, ROWS)


def test_nothing_of_a_batch_counts_when_the_disk_fails(
    store: ChunkStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, chunk(0, 50))

    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("brainforge_edge.cloud.store.packs.os.fdatasync", fail)
        with pytest.raises(StorageError, match="input/output"):
            put(store, chunk(50, 100))
    assert read_back(tmp_path)[0] == [Range(0, 0, 50)]
    assert put(store, chunk(50, 100))[0].outcome is Outcome.STORED
    assert np.array_equal(read_back(tmp_path)[1], ROWS[:100])


def test_incarnations_and_products_are_kept_apart(store: ChunkStore, tmp_path: Path) -> None:
    put(store, descriptor(product=1))
    placed = put(store, chunk(0, 50), chunk(0, 50, incarnation=1), chunk(0, 50, product=1))
    assert [p.outcome for p in placed] == [Outcome.STORED] * 3
    assert read_back(tmp_path)[0] == [Range(0, 0, 50), Range(1, 0, 50)]


def test_a_reader_of_no_store_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"catalogue\.sqlite is missing"):
        StoreReader(tmp_path, decode=registry.decode, pack=registry.pack_rows)


cuts = st.tuples(st.integers(0, 390), st.integers(1, 120)).map(
    lambda cut: (cut[0], min(400, cut[0] + cut[1]))
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=st.lists(st.lists(cuts, max_size=8), max_size=5), restart=st.booleans())
def test_any_cuts_in_any_order_store_each_sample_once(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, int]]], *, restart: bool
) -> None:
    root = tmp_path_factory.mktemp("store")
    store = open_store(root)
    put(store, descriptor())
    expected: set[int] = set()
    for batch in batches:
        for placed in put(store, *(chunk(first, end) for first, end in batch)):
            assert placed.outcome is not Outcome.REFUSED
        expected.update(seq for first, end in batch for seq in range(first, end))
        if restart:
            store.close()
            store = open_store(root)
    store.close()
    ranges, rows = read_back(root)
    assert [seq for r in ranges for seq in range(r.first, r.end)] == sorted(expected)
    assert np.array_equal(rows, ROWS[sorted(expected)])


def test_the_digest_is_that_of_the_packed_rows(store: ChunkStore, tmp_path: Path) -> None:
    put(store, chunk(50, 100), chunk(0, 50))
    reader = StoreReader(tmp_path, decode=registry.decode, pack=registry.pack_rows)
    packed = registry.pack_rows(ROWS[:100], Dtype.I24)
    assert reader.digest(LOG, "opm-mag") == {0: hashlib.sha256(packed).hexdigest()}
    (stored,) = reader.streams()
    assert stored.info == INFO
    reader.close()
