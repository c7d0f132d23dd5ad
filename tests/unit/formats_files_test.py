"""docs/formats.md: descriptor, markers, extension and journal header are what the program writes, and read as the page says."""

import struct
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest

from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import Anchor
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo
from brainforge_edge.recorder import chunk as chunk_module
from brainforge_edge.recorder.chunk import Chunk, ChunkDamaged, ChunkFlag
from brainforge_edge.recorder.entry import Entry
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.segment import SegmentWriter, pack_descriptor, read_descriptor
from brainforge_edge.storage.files import SystemDisk
from tests.unit.codec_examples import as_hex, block
from tests.unit.formats_example_test import (
    GAP,
    OFFSET,
    PACKED,
    T_FIRST,
    castagnoli,
    field,
    written_chunk,
    written_entry,
)

UTC = 1_772_323_200_000_000_000  # 2026-03-01
CHANNELS = tuple(ChannelInfo(name, "mag", "T", 1e-15) for name in "AB")
INFO = StreamInfo("opm-mag", "opm", 250.0, Dtype.I24, CHANNELS)
MARKERS = StreamInfo("markers", "node", 0.0, Dtype.I16, ())
ANCHOR = Anchor("b1", T_FIRST, UTC, 1_000_000)
IDENTITY = Identity(recording="r", node="n", log_id=bytes(range(16)), anchors=(ANCHOR,))
STATE = ClockState(1_792_000_123_456, 12.5, 830.1)
MIB = 2**20


def on_page(name: str) -> bytes:
    return bytes.fromhex(block("hex", name, "formats.md"))


def written_segment(folder: Path, info: StreamInfo, number: int, *chunks: Chunk) -> bytes:
    writer = SegmentWriter.create(
        folder, 1, info=info, number=number, identity=IDENTITY, size=MIB, disk=SystemDisk(),
        random=lambda n: bytes(range(16, 16 + n)),
    )  # fmt: skip
    for chunk in chunks:
        writer.append(chunk)
    writer.close()
    return writer.path.read_bytes()


def written_marker(folder: Path) -> bytes:
    body = cbor2.dumps([[T_FIRST, 1.5, "eyes closed"]], canonical=True)
    chunk = Chunk(
        codec=Codec.MARKERS, dtype=0, n_channels=0, n_samples=1, log_id=IDENTITY.log_id,
        incarnation=1, stream_number=4, seq=0, t_first_ns=T_FIRST, sfreq=0.0, body=body,
        t_first_utc_ns=UTC, utc_uncertainty_ns=1_000_000,
    )  # fmt: skip
    data = written_segment(folder, MARKERS, 4, chunk)
    return data[chunk_module.read_head(data).total_bytes :]


def written_extension() -> bytes:
    chunk = chunk_module.unpack(written_chunk())
    with_clock = replace(chunk, extension=chunk.extension | {"clock": list(STATE)})
    data = chunk_module.pack(with_clock)
    return data[128 : 128 + chunk_module.read_head(data).extension_bytes]


def written_journal(folder: Path) -> bytes:
    journal = Journal.create(
        folder, streams={3: INFO}, log_id=IDENTITY.log_id, file_bytes=MIB, disk=SystemDisk(),
        random=lambda n: bytes(range(32, 32 + n)), identity=IDENTITY,
    )  # fmt: skip
    journal.append([Entry(3, 2, 498, T_FIRST, 3, BlockFlag.GAP_BEFORE, GAP, PACKED)])
    journal.sync()
    data = (folder / "0001.jrn").read_bytes()
    journal.close()
    return data


def test_the_examples_of_the_page_are_what_is_written(tmp_path: Path) -> None:
    journal = written_journal(tmp_path / "opm.journal")
    used = 64 + field(journal, "I", 12)
    written = {
        "extension": written_extension(),
        "descriptor": written_segment(tmp_path / "opm-mag", INFO, 3),
        "markers": written_marker(tmp_path / "markers"),
        "journal": journal[:used],
        "journal-crc": journal[8188:8192],
    }
    for name, data in written.items():
        assert block("hex", name, "formats.md") == as_hex(data), (
            f"{name} should be:\n{as_hex(data)}"
        )
    assert not any(journal[used:8172])
    assert journal[8172:8188] == journal[16:32]
    assert journal[8192 : 8192 + len(written_entry())] == written_entry()


def test_a_stranger_reads_the_journal_header_with_the_offsets_of_the_page() -> None:
    data = on_page("journal").ljust(8172, b"\0") + bytes(range(32, 48)) + on_page("journal-crc")
    assert data[:4] == b"BFJ1"
    assert [field(data, kind, at) for kind, at in (("H", 4), ("H", 6), ("I", 8))] == [1, 0, 8192]
    assert data[16:32] == bytes(range(32, 48))
    assert data[32:48] == bytes(range(16))
    assert (field(data, "Q", 48), field(data, "Q", 56)) == (0, OFFSET + MIB)
    assert castagnoli(data[:8188]) == field(data, "I", 8188)
    description = cbor2.loads(data[64 : 64 + field(data, "I", 12)])
    assert list(description["streams"]) == [3]
    assert description["streams"][3]["dtype"] == Dtype.I24
    assert set(description["identity"]) == {
        "recording", "node", "log_id", "boot_id", "anchors", "participant", "key_id",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "codec", "rows", "number"), [("descriptor", 100, 0, 3), ("markers", 101, 1, 4)])  # fmt: skip
def test_a_stranger_reads_descriptor_and_markers(
    name: str, codec: int, rows: int, number: int
) -> None:
    data = on_page(name)
    header = {"codec": ("H", 12), "type": ("B", 14), "channels": ("I", 16), "rows": ("I", 20),
              "number": ("I", 44), "seq": ("Q", 48), "time": ("q", 56), "utc": ("q", 64),
              "uncertainty": ("Q", 72)}  # fmt: skip
    assert {key: field(data, *place) for key, place in header.items()} == {
        "codec": codec, "type": 0, "channels": 0, "rows": rows, "number": number, "seq": 0,
        "time": T_FIRST, "utc": UTC, "uncertainty": 1_000_000,
    }  # fmt: skip
    assert castagnoli(data[:124] + data[128:-4] + data[-8:-4]) == field(data, "I", len(data) - 4)
    body = cbor2.loads(data[128:-4])
    if codec == 101:
        assert body == [[T_FIRST, 1.5, "eyes closed"]]
    else:
        assert body["stream"]["channels"][1] == {
            "name": "B", "type": "mag", "unit": "T", "scale": 1e-15, "offset": 0.0,
        }  # fmt: skip
        assert body["anchors"] == [["b1", T_FIRST, UTC, 1_000_000]]


def test_the_extension_of_the_page_says_gap_and_clock() -> None:
    assert cbor2.loads(on_page("extension")) == {
        "gap": [4, 0, "device_index", "link"], "clock": list(STATE),
    }  # fmt: skip


def test_keys_that_a_reader_does_not_know_are_passed_over() -> None:
    fields = cbor2.loads(on_page("descriptor")[128:-4])
    known = read_descriptor(cbor2.dumps(fields))
    fields["later"] = 1
    fields["stream"]["later"] = 1
    fields["stream"]["channels"][0]["later"] = [1]
    assert read_descriptor(cbor2.dumps(fields)) == known
    assert cbor2.loads(pack_descriptor(known)) == cbor2.loads(on_page("descriptor")[128:-4])


@pytest.mark.parametrize(("kind", "at", "value"), [("B", 4, 2), ("H", 6, 132), ("H", 12, 7), ("I", 108, 2**20 + 1)])  # fmt: skip
def test_what_the_page_calls_no_chunk_is_refused(kind: str, at: int, value: int) -> None:
    """Each with right CRCs, so that nothing but the field itself is wrong."""
    data = bytearray(written_chunk())
    struct.pack_into("<" + kind, data, at, value)
    struct.pack_into("<I", data, 124, castagnoli(bytes(data[:124])))
    struct.pack_into(
        "<I", data, len(data) - 4, castagnoli(bytes(data[:124] + data[128:-4] + data[-8:-4]))
    )
    with pytest.raises(ChunkDamaged):
        chunk_module.unpack(bytes(data))


def test_the_flags_of_entries_and_chunks_stand_side_by_side_on_the_page() -> None:
    table = block_of_flags()
    names = {
        "GAP_BEFORE": "gap", "CLOCK_STEP": "fitted anew", "SATURATED": "limit", "EMULATED": "emulated",
        "FIRST": "first",
    }  # fmt: skip
    for name, word in names.items():
        line = next(line for line in table if word in line)
        assert f"| {BlockFlag[name].value} | {ChunkFlag[name].value} |" in line


def block_of_flags() -> list[str]:
    text = (Path(chunk_module.__file__).parents[1] / "docs" / "formats.md").read_text(
        encoding="utf-8"
    )
    return text[text.index("| flag | in an entry") :].split("\n\n")[0].splitlines()
