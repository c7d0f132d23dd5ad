"""What the targets found: each kind of input that once got past a parser's own errors."""

import base64
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest

from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming
from brainforge_edge.codec import registry
from brainforge_edge.core import ipc, wire
from brainforge_edge.core.block import Gap, GapBasis
from brainforge_edge.core.config import parse
from brainforge_edge.core.errors import (
    ConfigError,
    DeviceError,
    SecurityError,
    StorageError,
    TransportError,
)
from brainforge_edge.core.stream import Codec, Dtype
from brainforge_edge.daemon import control
from brainforge_edge.daemon.arguments import mapping
from brainforge_edge.devices.bfp import FrameFlag, unpack_descriptor
from brainforge_edge.devices.bfp_spans import Spans
from brainforge_edge.devices.muse_control import Replies
from brainforge_edge.export.recording import read_parts
from brainforge_edge.recorder.chunk import HEADER_BYTES, Chunk, ChunkDamaged, pack, unpack
from brainforge_edge.recorder.cut import gap_of
from brainforge_edge.recorder.entry import (
    JournalDamaged,
    pack_description,
    pack_header,
    read_header,
)
from brainforge_edge.recorder.segment import Descriptor, pack_descriptor, read_descriptor
from brainforge_edge.recorder.verify import verify_recording
from brainforge_edge.security import certificates
from brainforge_edge.storage.files import Disk
from tests.fuzz import enrolment_targets, frame_targets, mqtt_targets
from tests.fuzz.disk_targets import (
    FOLDER,
    INFO,
    decoded,
    descriptor_chunk,
    markers_chunk,
    mended_chunks,
    recording_disk,
    rows_chunk,
    segment,
)
from tests.fuzz.target import Target
from tests.fuzz.word_targets import finished, read_all
from tests.unit.recorder_material import IDENTITY, LOG_ID

TOO_LARGE = "1" + "0" * 30


def _described(info: Any) -> bytes:
    return pack_descriptor(Descriptor(info=info, number=1, identity=IDENTITY, ordinal=1, size=4096))


def test_a_device_whose_description_holds_what_is_no_text_is_refused() -> None:
    text = zlib.decompress(frame_targets.PACKED).replace(b"OPM003", b"OPM\xff\xff3")
    with pytest.raises(DeviceError) as refused:
        unpack_descriptor(zlib.compress(text))
    assert refused.value.code == "device.bad_descriptor"


def _given(target: str, data: bytes) -> None:
    targets: dict[str, Target] = {each.name: each for each in mqtt_targets.TARGETS}
    with targets[target].start() as run:
        run(data)


def test_a_receipt_with_what_is_no_text_is_left_out_and_the_uplink_goes_on() -> None:
    receipt = msgspec.msgpack.encode(wire.Receipt(LOG_ID, 0, INFO.stream_id, ()))
    _given("receipts", b"\1" + receipt.replace(b"dev-eeg", b"dev-\xfc\xff\xff"))


def test_a_generation_that_no_database_holds_is_no_receipt() -> None:
    fits = wire.Resume(LOG_ID, "abc", (), store_generation=2**62)
    too_large = msgspec.structs.replace(fits, store_generation=2**63)
    msgspec.msgpack.decode(msgspec.msgpack.encode(fits), type=wire.Resume)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(too_large), type=wire.Resume)
    _given("receipts", b"\0" + msgspec.msgpack.encode(too_large))


def test_a_hello_with_what_is_no_text_does_not_stop_the_aggregator() -> None:
    hello = msgspec.msgpack.encode(wire.Hello("node-1", LOG_ID, "life", ()))
    _given("aggregator", b"\4" + hello.replace(b"life", b"li\xff\xff"))


def test_a_stream_whose_rate_is_no_number_never_reaches_the_catalogue(tmp_path: Path) -> None:
    inventory = wire.StreamInventory(INFO.stream_id, 1, ())
    with closing(ChunkStore(tmp_path, decode=registry.decode)) as store:
        store.register("node-1", LOG_ID, (inventory,))
        for sfreq in (float("nan"), float("inf"), 0.0):
            info = msgspec.structs.replace(INFO, sfreq=sfreq)
            bad = pack(replace(descriptor_chunk(), body=_described(info)))
            (placed,) = store.put([Incoming("node-1", INFO.stream_id, bad)])
            assert placed.reason == "malformed"
    with closing(ChunkStore(tmp_path, decode=registry.decode)) as store:  # it starts again
        assert store.nodes() == {LOG_ID: "node-1"}


def test_a_control_message_of_no_kind_is_an_error_of_ours() -> None:
    for body in (b"\xc1", b"\x81\xa4type\xa5Re\xff\xffy"):
        with pytest.raises(TransportError) as refused:
            finished(read_all(len(body).to_bytes(4, "little") + body))
        assert refused.value.code == "transport.ipc_garbled"


def test_arguments_that_no_worker_can_be_told_are_refused_at_the_control_socket() -> None:
    async def verb(request: dict[str, Any]) -> dict[str, Any]:
        message = ipc.Command(token=1, name="x", arguments=mapping(request, "arguments"))
        return {"bytes": len(ipc.encode(message))}

    line = f'{{"verb":"command","arguments":{{"n":{TOO_LARGE}}}}}\n'.encode()
    reply = finished(control._answer(line, {"command": verb}))
    assert reply["error"]["code"] == "config.bad_argument"
    assert "64 bits" in reply["error"]["why"]
    not_text = finished(control._answer(b'{"verb":"\xff\xff"}', {"command": verb}))
    assert not_text["error"]["code"] == "session.bad_request"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("[recording]\nsync_ms = 1" + "0" * 400, "64 bits"),
        ("[recording]\nsync_ms = " + "1" * 5000, "4300 digits"),
        ("x" + ".a" * 1500 + " = 1", "nested too deeply"),
        (f'[[device]]\nname="h"\nkind="opm"\n[device.settings]\nx = {TOO_LARGE}', "64 bits"),
    ],
)
def test_a_configuration_with_numbers_or_keys_beyond_measure_is_refused(
    entry: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(f'[node]\nid = "a"\n{entry}\n')


def test_a_reply_of_a_headset_that_is_nested_without_end_is_garbage() -> None:
    replies = Replies()
    replies.feed(b'\x06{"a":[')
    for _ in range(8):
        replies.feed(bytes([200]) + b"[" * 200)
    assert replies.feed(b"\x02]}") == []
    assert replies.garbage == 1
    assert replies.feed(b'\x08{"rc":0}') == [{"rc": 0}]


def _verified(*chunks: Chunk, numbers: dict[int, int] | None = None) -> Any:
    body = b"".join(
        pack(chunk.placed(bytes(16), (numbers or {}).get(at, at)))
        for at, chunk in enumerate(chunks)
    )
    disk: Disk = recording_disk(body)
    (account,) = verify_recording(FOLDER, decode=decoded, disk=disk).streams
    return account


def test_a_chunk_with_a_huge_number_names_no_more_missing_ones_than_the_file_could_hold() -> None:
    account = _verified(descriptor_chunk(), rows_chunk(0, 3), numbers={1: 2**32 - 1})
    (damage,) = account.damaged
    assert 1 <= len(damage.numbers) < 10
    assert account.rows == 3


@pytest.mark.parametrize("gap", [[[], 0, "clock", "link"], [-1, 0, "clock", "link"], ["1"] * 4])
def test_a_gap_that_is_no_number_is_a_damaged_chunk(gap: list[Any]) -> None:
    good = rows_chunk(8, 4, gap=Gap(5, 0, GapBasis.DEVICE_INDEX))
    bad = replace(good, extension={"gap": gap})
    with pytest.raises(ValueError, match="malformed"):
        gap_of(bad)
    assert len(_verified(descriptor_chunk(), bad).damaged) == 1


def test_a_chunk_whose_extension_nests_maps_in_maps_is_damaged() -> None:
    nested = b"\xa1" * 40 + b"\0" * 41
    filler = {"x": bytes(len(nested) - 5)}  # as long as what takes its place
    whole = bytearray(pack(replace(rows_chunk(0, 3), extension=filler)))
    whole[HEADER_BYTES : HEADER_BYTES + len(nested)] = nested
    with pytest.raises(ChunkDamaged, match="extension"):
        unpack(mended_chunks(bytes(whole)))


def test_a_chunk_of_samples_without_a_type_is_damaged() -> None:
    with pytest.raises(ChunkDamaged, match="type"):
        unpack(pack(replace(rows_chunk(0, 3), dtype=18)))
    unpack(pack(markers_chunk()))  # has none, and needs none


def test_markers_that_cannot_be_read_are_damage_to_an_export() -> None:
    for body in (b"\x81", cbor2.dumps([1]), cbor2.dumps([[1, "x", 2]])):
        garbled = replace(markers_chunk(), body=body)
        disk = recording_disk(segment(descriptor_chunk(), rows_chunk(0, 3), garbled))
        (rows,) = read_parts(FOLDER, INFO.stream_id, disk)
        assert (rows.n_damaged, rows.markers, rows.n_rows) == (1, (), 3)


def test_chunks_without_rows_are_nothing_to_export() -> None:
    whole = rows_chunk(0, 3)
    body = registry.encode(
        Codec.PACKED, registry.unpack_rows(b"", INFO.dtype, INFO.n_channels), Dtype(whole.dtype)
    )
    none = replace(whole, n_samples=0, codec=Codec.PACKED, body=body)
    disk = recording_disk(segment(descriptor_chunk(), none, markers_chunk()))
    with pytest.raises(StorageError) as refused:
        read_parts(FOLDER, INFO.stream_id, disk)
    assert refused.value.code == "storage.empty"


@pytest.mark.parametrize("change", [{"sfreq": 0.0}, {"sfreq": float("nan")}, {"channels": ()}])
def test_a_stream_that_cannot_be_counted_with_makes_a_journal_damaged(
    change: dict[str, Any],
) -> None:
    info = msgspec.structs.replace(INFO, **change)
    description = pack_description({1: info}, IDENTITY)
    data = pack_header(
        file_id=bytes(16), log_id=LOG_ID, lap=1, file_bytes=8192, description=description
    )
    with pytest.raises(JournalDamaged, match="without channels or rate"):
        read_header(data)
    if "sfreq" in change:
        with pytest.raises(ChunkDamaged, match="rate"):
            read_descriptor(_described(info))


def test_the_chunks_that_these_tests_spoil_are_whole() -> None:
    account = _verified(descriptor_chunk(), rows_chunk(0, 3), markers_chunk())
    assert account.is_clean


def test_a_stretch_that_a_clock_which_is_set_back_divides_is_two() -> None:
    spans = Spans()
    flag = int(FrameFlag.ZEROING)
    spans.see(1, flag, 5_000, 6_000)
    spans.see(1, flag, 1_000, 2_000)
    spans.end()
    assert [(m.t_ns, m.duration_s) for m in spans.take()] == [(5_000, 1e-6), (1_000, 1e-6)]


@pytest.mark.parametrize(
    ("kind", "before"), [("CERTIFICATE REQUEST", b"\x02\x01\x00"), ("CERTIFICATE", b"\x02\x01\x02")]
)
def test_a_certificate_or_request_of_a_version_that_there_is_none_of_is_refused(
    kind: str, before: bytes
) -> None:
    """The library's own error for it is none for a wrong value."""
    read: Callable[[bytes], object] = certificates.read_request
    pem = certificates.make_request(enrolment_targets.KEY, "bed-1")
    if kind == "CERTIFICATE":
        pem = certificates.pem(enrolment_targets.OWN)
        read = partial(certificates.read_certificate, name="of bed-1")
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    der = der.replace(before, before[:2] + b"\x09", 1)
    text = f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n"
    with pytest.raises(SecurityError):
        read(text.encode())
