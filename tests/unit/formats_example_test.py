"""docs/formats.md: its example is what the program writes, and its tables are enough to read it."""

import hashlib
import hmac
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import brainforge_edge
from brainforge_edge.codec import registry
from brainforge_edge.core.block import BlockFlag, Gap, GapBasis
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder import chunk as chunk_module
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.entry import Entry, pack_entry
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.security.seal import JOURNAL, SEGMENT, DataKey

PAGE = Path(brainforge_edge.__file__).parent / "docs" / "formats.md"
ROWS = ((1, -1), (2, -2), (3, -3))
PACKED = b"".join(v.to_bytes(3, "little", signed=True) for row in ROWS for v in row)
GAP = Gap(4, 0, GapBasis.DEVICE_INDEX)
T_FIRST = 1_992_000_000
OFFSET = 8192


def on_page(name: str) -> bytes:
    found = re.search(rf"```hex {name}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"no example {name}"
    return bytes.fromhex(found[1])


def encode(rows: bytes, info: StreamInfo) -> tuple[Codec, bytes]:
    unpacked = registry.unpack_rows(rows, info.dtype, info.n_channels)
    return Codec.PACKED, registry.encode(Codec.PACKED, unpacked, info.dtype)


KEY = DataKey(bytes(range(0xA0, 0xA8)), bytes(range(0x40, 0x60)))


def written_chunk(key: DataKey | None = None) -> bytes:
    info = StreamInfo("opm-mag", "opm", 250.0, Dtype.I24, (ChannelInfo("A"), ChannelInfo("B")))
    made = make_chunk(
        PACKED,
        info=info,
        number=3,
        identity=Identity(recording="r", node="n", log_id=bytes(range(16))),
        incarnation=2,
        seq=498,
        t_first_ns=T_FIRST,
        flags=BlockFlag.GAP_BEFORE,
        gap=GAP,
        encode=encode,
    )
    placed = made.placed(bytes(range(16, 32)), 1)
    if key is None:
        return chunk_module.pack(placed)
    seal = key.file(placed.segment_id, SEGMENT)
    return chunk_module.pack(replace(placed, key_id=key.key_id), seal)


def written_entry(key: DataKey | None = None) -> bytes:
    entry = Entry(3, 2, 498, T_FIRST, 3, BlockFlag.GAP_BEFORE, GAP, PACKED)
    file_id = bytes(range(32, 48))
    seal = None if key is None else key.file(file_id, JOURNAL)
    return b"".join(pack_entry(entry, seed=crc32c(file_id), offset=OFFSET, seal=seal))


def as_hex(data: bytes) -> str:
    return "".join(data[at : at + 16].hex(" ") + "\n" for at in range(0, len(data), 16))


def test_the_example_on_the_page_is_what_is_written() -> None:
    assert on_page("chunk") == written_chunk(), "should be:\n" + as_hex(written_chunk())
    assert on_page("entry") == written_entry(), "should be:\n" + as_hex(written_entry())
    sealed = written_chunk(KEY), written_entry(KEY)
    assert on_page("sealed-chunk") == sealed[0], "should be:\n" + as_hex(sealed[0])
    assert on_page("sealed-entry") == sealed[1], "should be:\n" + as_hex(sealed[1])


def hkdf(salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, one block."""
    extracted = hmac.new(salt, KEY.secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\1", hashlib.sha256).digest()


def test_a_stranger_opens_what_is_sealed_with_the_words_of_the_pages() -> None:
    chunk, entry = on_page("sealed-chunk"), on_page("sealed-entry")
    assert field(chunk, "I", 8) == 5
    assert chunk[116:124] == KEY.key_id
    body_at = 128 + field(chunk, "I", 112)
    cipher = AESGCM(hkdf(chunk[88:104], b"brainforge segment 1"))
    nonce = field(chunk, "I", 104).to_bytes(12, "little")
    body = cipher.decrypt(nonce, chunk[body_at:-4], chunk[:124] + chunk[128:body_at])
    assert body[:-4] == PACKED
    assert field(body, "I", len(body) - 4) == castagnoli(PACKED)
    assert field(chunk, "I", len(chunk) - 4) == castagnoli(
        chunk[:124] + chunk[128:-4] + chunk[-8:-4]
    )
    assert field(entry, "H", 2) == 32768 + 1
    assert field(entry, "I", 4) == len(PACKED) + 16
    cipher = AESGCM(hkdf(bytes(range(32, 48)), b"brainforge journal 1"))
    assert cipher.decrypt(OFFSET.to_bytes(12, "little"), entry[56:-4], entry[:56]) == PACKED


def field(data: bytes, kind: str, at: int) -> Any:
    return struct.unpack_from("<" + kind, data, at)[0]


def test_a_stranger_reads_the_chunk_with_the_offsets_of_the_page() -> None:
    data = on_page("chunk")
    assert data[:4] == b"BFC1"
    body, extension = field(data, "I", 108), field(data, "I", 112)
    assert len(data) == 128 + extension + body + 4
    assert field(data, "I", 124) == castagnoli(data[:124])
    assert field(data, "I", len(data) - 4) == castagnoli(data[:124] + data[128:-4] + data[-8:-4])
    read = {
        "version": field(data, "B", 4), "product": field(data, "B", 5), "header": field(data, "H", 6),
        "flags": field(data, "I", 8), "codec": field(data, "H", 12), "type": field(data, "B", 14),
        "channels": field(data, "I", 16), "rows": field(data, "I", 20), "log": data[24:40].hex(),
        "incarnation": field(data, "I", 40), "stream": field(data, "I", 44),
        "seq": field(data, "Q", 48), "time": field(data, "q", 56), "utc": field(data, "q", 64),
        "uncertainty": field(data, "Q", 72), "sfreq": field(data, "d", 80),
        "segment": data[88:104].hex(), "number": field(data, "I", 104),
    }  # fmt: skip
    assert read == {
        "version": 1, "product": 0, "header": 128, "flags": 4, "codec": 0, "type": 2, "channels": 2,
        "rows": 3, "log": bytes(range(16)).hex(), "incarnation": 2, "stream": 3, "seq": 498,
        "time": T_FIRST, "utc": -(2**63), "uncertainty": 0, "sfreq": 250.0,
        "segment": bytes(range(16, 32)).hex(), "number": 1,
    }  # fmt: skip
    assert cbor2.loads(data[128 : 128 + extension]) == {"gap": [4, 0, "device_index", "link"]}
    rows = data[128 + extension : -4]
    assert field(rows, "I", len(rows) - 4) == castagnoli(rows[:-4])
    assert rows[:-4] == PACKED


def test_a_stranger_reads_the_entry_with_the_offsets_of_the_page() -> None:
    data = on_page("entry")
    assert data[:2] == b"BJ"
    kinds = (("H", 2), ("I", 4), ("I", 8), ("I", 12), ("Q", 16), ("q", 24))
    assert [field(data, kind, at) for kind, at in kinds] == [1, 18, 3, 2, 498, T_FIRST]
    gap = [field(data, kind, at) for kind, at in (("Q", 32), ("Q", 40), ("B", 48), ("B", 49))]
    assert gap == [4, 0, 1, 1]
    assert data[56:-4] == PACKED
    place = bytes(range(32, 48)) + struct.pack("<Q", OFFSET)
    assert field(data, "I", len(data) - 4) == castagnoli(place + data[:-4])


def test_the_crc_on_the_page_is_the_kernel_s() -> None:
    assert castagnoli(b"123456789") == crc32c(b"123456789") == 0xE3069283


def test_every_codec_and_flag_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for codec in Codec:
        assert f"{codec.value} {codec.name}" in text
    flags = text[text.index("Flags:") : text.index("Extension keys")]
    assert [int(n) for n in re.findall(r"(\d+) [a-z]", flags)] == [
        flag.value for flag in chunk_module.ChunkFlag
    ]
    for key in ("gap", "clock"):
        assert f"| `{key}` |" in text


def castagnoli(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
