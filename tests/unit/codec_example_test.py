"""docs/codec.md: its examples are what the program writes, and the plain reader reads them as the page says."""

import pytest

from brainforge_edge.codec import registry
from brainforge_edge.core.stream import Codec
from brainforge_edge.kernels.crc import crc32c
from tests.unit import codec_oracle
from tests.unit.codec_examples import ROWS, as_hex, as_rows, as_trace, block, coder_states
from tests.unit.codec_oracle import Trace


@pytest.mark.parametrize("name", ROWS)
def test_an_example_of_the_page_is_what_is_written(name: str) -> None:
    dtype, rows = ROWS[name]
    assert block("hex", name) == as_hex(registry.encode(Codec.LOSSLESS, rows, dtype))


@pytest.mark.parametrize("name", ROWS)
def test_a_reader_written_from_the_page_reads_its_examples(name: str) -> None:
    dtype, rows = ROWS[name]
    body = bytes.fromhex(block("hex", name))
    packed = codec_oracle.packed_rows(body[:-4], dtype, *rows.shape)
    assert packed == registry.pack_rows(rows, dtype)
    assert crc32c(packed) == int.from_bytes(body[-4:], "little")


@pytest.mark.parametrize("name", ["predicted", "neighbour"])
def test_the_page_shows_what_such_a_reader_sees_on_its_way(name: str) -> None:
    body = bytes.fromhex(block("hex", name))
    n, channels = ROWS[name][1].shape
    trace: Trace = []
    codec_oracle.decode(body[1:-4], 16, n, channels, trace)
    assert block("trace", name) == as_trace(trace, is_brief=name == "neighbour")


def test_the_page_shows_the_coder_s_states_and_the_rows() -> None:
    body = bytes.fromhex(block("hex", "constant"))
    assert block("trace", "constant") == coder_states(body[1:-4], 16, 4, 1)
    assert block("rows", "predicted") == as_rows(ROWS["predicted"][1])


def test_the_small_examples_have_the_modes_they_are_named_for() -> None:
    def heads(name: str, bits: int, n: int, channels: int) -> str:
        return coder_states(bytes.fromhex(block("hex", name))[1:-4], bits, n, channels)

    assert "take(15, 1, 4)" in heads("palette", 16, 12, 1)
    assert "take(14, 1, 4)" in heads("verbatim", 16, 5, 2)
    assert heads("f64", 32, 3, 4).count("take(13, 1, 4)") == 4


def test_the_halves_of_64_bit_floats_are_the_columns_that_the_page_names() -> None:
    body = bytes.fromhex(block("hex", "f64"))
    columns = codec_oracle.decode(body[1:-4], 32, 3, 4)
    assert [column[0] for column in columns] == [0x3FF00000, -1074003969, 0, -1]
