"""What signing costs: a receipt, at both ends, and a full segment that is read back from the store and signed for.

The peer of a receipt is the same message without a signature. The peer of a segment is SHA-256 over its bytes in
memory. The store is the real one, in the temporary folder, with 64 MiB in chunks of 220 kB (a second of the full
MEG rate) and of 1 kB (the worst that a segment can be made of here); what it reads comes from the page cache.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import cbor2
import msgspec

from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming
from brainforge_edge.codec import registry
from brainforge_edge.core import topics
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo
from brainforge_edge.core.wire import ClosedSegment, Range, Receipt
from brainforge_edge.recorder.chunk import Chunk, pack
from brainforge_edge.security.sign import Signed, acknowledging, make_signer, read_signer
from tests.benchmarks.row import Row
from tests.benchmarks.timing import alternate

SEGMENT_BYTES = 64 * 1024 * 1024
LOG_ID = bytes(16)
INFO = StreamInfo("helmet-mag", "helmet", 1000.0, Dtype.I32, (ChannelInfo("MEG000", "mag", "T"),))


def run() -> list[Row]:
    rows = _receipt()
    for body_bytes in (220_000, 1_000):
        with tempfile.TemporaryDirectory() as name:
            rows.append(_segment(Path(name), body_bytes))
    return rows


def _receipt() -> list[Row]:
    signer = read_signer(make_signer()[0], "benchmark")
    topic = topics.ack("bed-1", INFO.stream_id)
    receipt = Receipt(LOG_ID, 0, INFO.stream_id, (Range(1, 0, 10**9),))
    payload = msgspec.msgpack.encode(receipt)
    signed = msgspec.msgpack.encode(signer.sign(acknowledging(topic), payload))

    def say() -> bytes:
        body = msgspec.msgpack.encode(receipt)
        return msgspec.msgpack.encode(signer.sign(acknowledging(topic), body))

    def hear() -> Receipt:
        found = msgspec.msgpack.decode(signed, type=Signed)
        assert signer.public.is_genuine(acknowledging(topic), found)
        return msgspec.msgpack.decode(found.body, type=Receipt)

    say_s, plain_say_s = alternate(say, lambda: msgspec.msgpack.encode(receipt))
    hear_s, plain_hear_s = alternate(hear, lambda: msgspec.msgpack.decode(payload, type=Receipt))
    return [
        Row("receipt, said", say_s * 1e6, plain_say_s * 1e6, "us", say_s / plain_say_s),
        Row("receipt, heard", hear_s * 1e6, plain_hear_s * 1e6, "us", hear_s / plain_hear_s),
        Row("… more on the wire", len(signed), len(payload), "bytes", len(signed) / len(payload)),
    ]


def _segment(folder: Path, body_bytes: int) -> Row:
    store = ChunkStore(folder, decode=registry.decode)
    store.register("bed-1", LOG_ID, [])
    digest, size, number = hashlib.sha256(), 0, 0
    batch: list[Incoming] = []
    for chunk in _chunks(body_bytes):
        digest.update(chunk)
        size, number = size + len(chunk), number + 1
        batch.append(Incoming("bed-1", INFO.stream_id, chunk))
        if len(batch) == 1000:
            store.put(batch)
            batch.clear()
    store.put(batch)
    segment = ClosedSegment(
        INFO.stream_id, 0, bytes(16), number, size, digest.digest(), (Range(1, 0, number),), bytes(32)
    )  # fmt: skip
    reasons: list[str] = []
    read: Callable[[], object] = lambda: reasons.append(store.objection(LOG_ID, segment))  # noqa: E731
    whole = os.urandom(size)
    taken, hashed = alternate(read, lambda: hashlib.sha256(whole).digest(), rounds=5)
    store.close()
    assert set(reasons) == {""}
    return Row(f"segment of {number} chunks", taken * 1e3, hashed * 1e3, "ms", taken / hashed)


def _chunks(body_bytes: int) -> list[bytes]:
    """A descriptor, and chunks of one row each with a body of that size."""
    common = {"log_id": LOG_ID, "incarnation": 1, "stream_number": 1, "t_first_ns": 0, "sfreq": 1000.0}  # fmt: skip
    describing = cbor2.dumps({"stream": msgspec.to_builtins(INFO)})
    found = [
        Chunk(codec=Codec.DESCRIPTOR, dtype=0, n_channels=0, n_samples=0, seq=0, body=describing, **common)  # type: ignore[arg-type]
    ]  # fmt: skip
    body = os.urandom(body_bytes)
    n = SEGMENT_BYTES // (body_bytes + 132)
    found += [
        Chunk(codec=Codec.LOSSLESS, dtype=Dtype.I32, n_channels=1, n_samples=1, seq=k, body=body, number=k + 1, **common)  # type: ignore[arg-type]
        for k in range(n)
    ]  # fmt: skip
    return [pack(chunk) for chunk in found]
