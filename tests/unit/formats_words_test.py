"""docs/formats.md and docs/operator.md: what a reader must not have to guess is what the program does."""

import re
from pathlib import Path

import pytest

from brainforge_edge.cli import verify
from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.recorder.cut import time_of
from brainforge_edge.recorder.entry import Entry
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.verify import Account, StreamAccount
from brainforge_edge.storage.files import SystemDisk
from tests.unit.formats_example_test import PACKED, PAGE, T_FIRST, field, on_page
from tests.unit.formats_files_test import written_segment

OPERATOR = PAGE.parent / "operator.md"


def test_the_body_length_of_the_example_counts_its_crc() -> None:
    data = on_page("chunk")
    assert field(data, "I", 108) == len(PACKED) + 4
    assert len(data) == 128 + field(data, "I", 112) + field(data, "I", 108) + 4


@pytest.mark.parametrize(("row", "ns"), [(1, 976_562), (2, 1_953_125), (3, 2_929_688)])
def test_a_time_between_two_nanoseconds_goes_to_the_even_one(row: int, ns: int) -> None:
    assert time_of(0, row, 1024.0) == ns


def test_a_journal_file_is_zero_until_its_first_lap(tmp_path: Path) -> None:
    info = StreamInfo("opm-mag", "opm", 250.0, Dtype.I24, (ChannelInfo("A"),))
    journal = Journal.create(
        tmp_path, streams={3: info}, log_id=bytes(16), file_bytes=2**20, disk=SystemDisk(),
        random=lambda n: bytes(range(n)),
    )  # fmt: skip
    journal.append([Entry(3, 1, 0, T_FIRST, 1, BlockFlag(0), None, PACKED[:3])])
    journal.sync()
    first, second = [path.read_bytes() for path in sorted(tmp_path.glob("*.jrn"))]
    journal.close()
    assert first[:4] == b"BFJ1"
    assert not any(second)


def test_a_closed_segment_ends_with_its_last_chunk(tmp_path: Path) -> None:
    info = StreamInfo("opm-mag", "opm", 250.0, Dtype.I24, (ChannelInfo("A"),))
    data = written_segment(tmp_path / "closed", info, 3)
    assert len(data) == 128 + field(data, "I", 112) + field(data, "I", 108) + 4


def test_the_operators_guide_lists_every_key_of_the_account() -> None:
    text = OPERATOR.read_text(encoding="utf-8")
    section = text.split("## The account of `verify`")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    account = Account("r", is_closed=True, streams=[], problems=[])
    keys = {*verify._described(account), *verify._stream(StreamAccount("s"))} - {"stream_id"}
    assert keys <= named, keys - named
