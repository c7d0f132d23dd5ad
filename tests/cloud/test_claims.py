"""Claims at the aggregator: what the packs give back byte for byte is signed for, all else is denied with a reason."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.cloud.ingest.claims import MOST_QUEUED_BYTES, MOST_SEGMENTS, Claims
from brainforge_edge.cloud.ingest.subscriber import Inbox, Message
from brainforge_edge.cloud.ingest.writer import Writer
from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming
from brainforge_edge.cloud.store.packs import PackFiles
from brainforge_edge.codec import registry
from brainforge_edge.core import topics, wire
from brainforge_edge.recorder.attested import attestation_of
from brainforge_edge.recorder.chunk import pack, read_head, unpack
from brainforge_edge.security.sign import Signed, Signer, make_signer, read_signer
from brainforge_edge.storage.sqlite import Database
from tests.broker.rig import CHUNK_ROWS, BoxLog, rows_of, stream
from tests.broker.signing import claimed, close, heads

MAG = stream("opm-mag")
SIGNER = read_signer(make_signer()[0], "test")
CHUNKS = 12
PACK_BYTES = 5000  # a segment lies in several packs


class Aggregator:
    """Store and writer without a broker; `said` is what boxes are told."""

    def __init__(self, root: Path, log: BoxLog, *, signer: Signer | None = SIGNER) -> None:
        self.log = log
        self.inbox = Inbox()
        self.said: list[wire.Answer] = []
        self.store = ChunkStore(root, decode=registry.decode, pack_bytes=PACK_BYTES)
        self.store.register("bed-1", log.log_id, [])
        self.writer = Writer(self.store, self.inbox, self._hear, signer=signer)

    def _hear(self, topic: str, payload: bytes) -> bool:
        if self.writer._signer is not None:
            payload = msgspec.msgpack.decode(payload, type=Signed).body
        if topic == topics.ack("bed-1", topics.LOG) and b"Answer" in payload:
            self.said.append(msgspec.msgpack.decode(payload, type=wire.Answer))
        return True

    def put(self, *chunks: bytes) -> None:
        self.store.put([Incoming("bed-1", MAG.stream_id, data) for data in chunks])

    def claim(self, *segments: wire.ClosedSegment, node: str = "bed-1") -> list[wire.Answer]:
        claim = wire.Claim(self.log.log_id, "token", segments)
        return self.hear(msgspec.msgpack.encode(claim), node=node)

    def hear(self, payload: bytes, *, node: str = "bed-1") -> list[wire.Answer]:
        self.said.clear()
        self.inbox.offer(Message(topics.claim(node), payload))
        self.writer.step(0.0)
        while self.writer.claims.waiting:
            self.writer.step(0.0)
        return list(self.said)

    def reason(self, segment: wire.ClosedSegment) -> str:
        (answer,) = self.claim(segment)
        assert bool(answer.reason) != bool(answer.statement)
        return answer.reason


class Closed:
    """One closed segment at the box: its entry, its claim, its chunks."""

    def __init__(self, log: BoxLog) -> None:
        log.fill(MAG, CHUNKS, segment_bytes=1024 * 1024)
        log.close()
        self.recording = log.recordings / "r1"
        (self.entry,) = close(self.recording)
        self.path = self.recording / self.entry.stream_id / self.entry.segment
        data = self.path.read_bytes()
        self.chunks = [data[at : at + head.total_bytes] for at, head in heads(self.path)]
        self.segment = claimed(self.recording, self.entry)


@pytest.fixture
def log(tmp_path: Path) -> BoxLog:
    return BoxLog(tmp_path / "box")


@pytest.fixture
def closed(log: BoxLog) -> Closed:
    return Closed(log)


@pytest.fixture
def cloud(tmp_path: Path, log: BoxLog) -> Iterator[Aggregator]:
    aggregator = Aggregator(tmp_path / "cloud", log)
    yield aggregator
    aggregator.store.close()


def test_a_segment_that_came_in_any_order_is_signed_for(cloud: Aggregator, closed: Closed) -> None:
    mixed = closed.chunks[1:]
    random.Random(4).shuffle(mixed)
    cloud.put(closed.chunks[0], *mixed)
    (answer,) = cloud.claim(closed.segment)
    assert (answer.answers, answer.segment_id) == ("token", closed.entry.segment_id)
    signed = msgspec.msgpack.decode(answer.statement, type=Signed)
    said = attestation_of(signed, closed.entry, log_id=cloud.log.log_id, verifier=SIGNER.public)
    assert said is not None
    assert said.store_generation == 0
    assert said.segment == closed.segment
    assert cloud.writer.status()["attested"] == 1


def test_each_chunk_that_is_not_there_is_missed(cloud: Aggregator, closed: Closed) -> None:
    cloud.put(*closed.chunks[:-1])
    assert cloud.reason(closed.segment) == "missing"
    cloud.put(closed.chunks[-1])
    assert cloud.reason(closed.segment) == ""


def test_without_its_descriptor_a_segment_is_not_whole(cloud: Aggregator, closed: Closed) -> None:
    again = BoxLog(cloud.log.root, seed=9)
    other = again.append(MAG, 10_000, recording="r2")
    again.close()
    data = (again.recordings / "r2" / MAG.stream_id / other.segment).read_bytes()
    cloud.put(data[: read_head(data).total_bytes])  # makes the stream known
    cloud.put(*closed.chunks[1:])
    assert cloud.reason(closed.segment) == "missing"


@pytest.mark.parametrize("n", range(0, CHUNKS + 1, 3))
def test_a_changed_byte_in_a_pack_is_found_wherever_it_is(
    cloud: Aggregator, closed: Closed, n: int
) -> None:
    cloud.put(*closed.chunks)
    chunk = closed.chunks[n]
    (path,) = (p for p in cloud.store.folder.rglob("*.pack") if chunk in p.read_bytes())
    whole = path.read_bytes()
    for at in (0, 60, 110, 130, len(chunk) - 1):
        changed = bytearray(whole)
        changed[whole.index(chunk) + at] ^= 1
        path.write_bytes(changed)
        assert cloud.reason(closed.segment) == "different"
    path.write_bytes(whole)
    assert cloud.reason(closed.segment) == ""


def test_a_pack_that_is_short_or_gone_is_denied_and_ingest_goes_on(
    cloud: Aggregator, closed: Closed
) -> None:
    cloud.put(*closed.chunks)
    (first, *_) = sorted(cloud.store.folder.rglob("*.pack"))
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    cloud.store._packs.close()
    assert cloud.reason(closed.segment) == "different"
    cloud.store._packs.close()
    first.unlink()
    assert cloud.reason(closed.segment) == "unreadable"
    assert not cloud.writer.failing
    assert cloud.writer.status()["denied"] == {"different": 1, "unreadable": 1}


def test_equal_samples_in_other_bytes_are_not_the_segment(
    cloud: Aggregator, closed: Closed
) -> None:
    """Received twice in different chunks, the store keeps those that came first."""
    renumbered = unpack(closed.chunks[3]).placed(bytes(16), 99)
    cloud.put(closed.chunks[0], pack(renumbered), *closed.chunks[1:])
    assert cloud.reason(closed.segment) == "missing"


def test_a_chunk_of_which_only_a_part_was_new_is_there_in_full(
    cloud: Aggregator, closed: Closed, log: BoxLog
) -> None:
    """Another chunk has some of its samples: its own bytes are stored for the rest, in two parts."""
    third = unpack(closed.chunks[3])
    rows = rows_of(MAG, third.seq + 10, 20)
    body = registry.encode(third.codec, rows, MAG.dtype)
    middle = pack(
        type(third)(
            codec=third.codec, dtype=third.dtype, n_channels=third.n_channels, n_samples=20,
            log_id=log.log_id, incarnation=0, stream_number=third.stream_number,
            seq=third.seq + 10, t_first_ns=0, sfreq=third.sfreq, body=body,
        )
    )  # fmt: skip
    cloud.put(closed.chunks[0], middle, *closed.chunks[1:])
    assert cloud.reason(closed.segment) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sha256": bytes(32)}, "different"),
        ({"size": 5}, "different"),
        ({"chunks": CHUNKS}, "different"),
        ({"chunks": CHUNKS + 2}, "missing"),
        ({"segment_id": bytes(16)}, "missing"),
        ({"product": 1}, "missing"),
        ({"stream_id": "no-such"}, "missing"),
        ({"ranges": ()}, "missing"),
        ({"ranges": (wire.Range(3, 0, 50),)}, "missing"),
        ({"ranges": (wire.Range(0, 0, 2**62),)}, ""),  # coarser, and nothing else is there
        ({"ranges": (wire.Range(0, 0, 2**63),)}, "impossible"),
        ({"ranges": (wire.Range(-1, 0, 50),)}, "impossible"),
        ({"ranges": (wire.Range(0, 50, 50),)}, "impossible"),
        ({"ranges": (wire.Range(0, 50, 100), wire.Range(0, 0, 50))}, "impossible"),
        ({"ranges": (wire.Range(0, 0, 50), wire.Range(0, 49, 100))}, "impossible"),
        ({"ranges": (wire.Range(1, 0, 50), wire.Range(0, 50, 60))}, "impossible"),
        ({"ranges": (wire.Range(0, 0, 2**40),) * 2}, "impossible"),
        ({"ranges": tuple(wire.Range(0, i, i + 1) for i in range(CHUNKS + 2))}, "impossible"),
        ({"size": 2**40}, "impossible"),
        ({"chunks": 2**40}, "impossible"),
        ({"chunks": 0}, "impossible"),
        ({"sha256": b""}, "impossible"),
        ({"head": b""}, "impossible"),
        ({"product": -1}, "impossible"),
    ],
)
def test_a_claim_that_says_anything_else_is_denied(
    cloud: Aggregator, closed: Closed, changes: dict[str, Any], reason: str
) -> None:
    cloud.put(*closed.chunks)
    assert cloud.reason(msgspec.structs.replace(closed.segment, **changes)) == reason


def test_many_small_ranges_are_followed(cloud: Aggregator, closed: Closed) -> None:
    cloud.put(*closed.chunks)
    ranges = tuple(wire.Range(0, i * CHUNK_ROWS, (i + 1) * CHUNK_ROWS) for i in range(CHUNKS))
    assert cloud.reason(msgspec.structs.replace(closed.segment, ranges=ranges)) == ""


def test_only_the_node_that_speaks_for_the_log_may_claim(cloud: Aggregator, closed: Closed) -> None:
    cloud.put(*closed.chunks)
    assert cloud.claim(closed.segment, node="bed-2") == []
    assert cloud.writer.ignored["foreign_claim"] == 1
    cloud.inbox.offer(
        Message(
            topics.claim("bed-1"),
            msgspec.msgpack.encode(wire.Claim(bytes(16), "t", (closed.segment,))),
        )
    )
    cloud.writer.step(0.0)
    assert cloud.writer.ignored["foreign_claim"] == 2


def test_garbage_claims_are_counted_and_stop_nobody(cloud: Aggregator, closed: Closed) -> None:
    cloud.put(*closed.chunks)
    whole = msgspec.msgpack.encode(wire.Claim(cloud.log.log_id, "token", (closed.segment,)))
    chance = random.Random(8)
    bad = [b"", b"\xc1", whole[:-1], chance.randbytes(500), b"\x91" * 100_000]
    segment = closed.segment
    segments = (segment,) * (MOST_SEGMENTS + 1)
    short = msgspec.structs.replace(segment, segment_id=b"short")
    wrong = (
        wire.Claim(cloud.log.log_id, "token", ()),
        wire.Claim(cloud.log.log_id, "token", segments),
        wire.Claim(cloud.log.log_id, "t" * 65, (segment,)),
        wire.Claim(b"short", "token", (segment,)),
        wire.Claim(cloud.log.log_id, "t", (short,)),
    )
    bad += [msgspec.msgpack.encode(claim) for claim in wrong]
    for payload in bad:
        assert cloud.hear(payload) == []
    assert cloud.writer.ignored == {"malformed_claim": len(bad)}
    assert [answer.reason for answer in cloud.hear(whole)] == [""]


def test_without_a_key_to_sign_with_every_claim_is_denied(
    tmp_path: Path, log: BoxLog, closed: Closed
) -> None:
    unsigned = Aggregator(tmp_path / "cloud", log, signer=None)
    unsigned.put(*closed.chunks)
    assert unsigned.reason(closed.segment) == "unsigned"
    unsigned.store.close()


def test_one_segment_is_read_back_a_step_and_logs_take_turns(
    tmp_path: Path, log: BoxLog, closed: Closed
) -> None:
    store = ChunkStore(tmp_path / "cloud", decode=registry.decode)
    said: list[tuple[str, bytes]] = []
    claims = Claims(store, SIGNER, lambda node, answer: said.append((node, answer.log_id)))
    for n in range(3):
        log_id = bytes([n]) * 16
        store.register(f"bed-{n}", log_id, [])
        claim = wire.Claim(log_id, "t", (closed.segment,) * 2)
        assert claims.hear(f"bed-{n}", msgspec.msgpack.encode(claim)) == ""
    again = msgspec.msgpack.encode(wire.Claim(bytes(16), "u", (closed.segment,) * 2))
    assert claims.hear("bed-0", again) == ""  # instead of the first, in its place
    assert claims.waiting == 6
    for _ in range(7):
        claims.step()
    assert [node for node, _ in said] == ["bed-0", "bed-1", "bed-2"] * 2
    store.close()


def test_the_queue_of_claims_is_bounded(tmp_path: Path, log: BoxLog, closed: Closed) -> None:
    store = ChunkStore(tmp_path / "cloud", decode=registry.decode)
    claims = Claims(store, SIGNER, lambda _node, _answer: None)
    long = msgspec.structs.replace(closed.segment, ranges=(wire.Range(0, 2**60, 2**61),) * 60_000)
    payloads = [msgspec.msgpack.encode(wire.Claim(bytes([n]) * 16, "t", (long,))) for n in range(8)]
    results = []
    for n, payload in enumerate(payloads):
        store.register(f"bed-{n}", bytes([n]) * 16, [])
        results.append(claims.hear(f"bed-{n}", payload))
    fitting = MOST_QUEUED_BYTES // len(payloads[0])
    assert results == [""] * fitting + ["too_many_claims"] * (8 - fitting)
    store.close()


def test_a_box_that_speaks_for_the_log_no_longer_is_not_answered(
    cloud: Aggregator, closed: Closed
) -> None:
    cloud.put(*closed.chunks)
    claim = wire.Claim(cloud.log.log_id, "token", (closed.segment,))
    assert cloud.writer.claims.hear("bed-1", msgspec.msgpack.encode(claim)) == ""
    cloud.store.register("bed-9", cloud.log.log_id, [])
    cloud.writer.step(0.0)
    assert cloud.said == []
    assert cloud.writer.claims.waiting == 0


def test_ranges_that_are_not_the_segments_own_are_not_followed(
    tmp_path: Path, log: BoxLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a claim holds the writer for as long as the store is large."""
    log.fill(MAG, 400, segment_bytes=1024 * 1024)
    log.close()
    entries = close(log.recordings / "r1")
    cloud = Aggregator(tmp_path / "cloud", log)
    for entry in entries:
        path = log.recordings / "r1" / entry.stream_id / entry.segment
        data = path.read_bytes()
        cloud.put(*(data[at : at + head.total_bytes] for at, head in heads(path)))
    segment = msgspec.structs.replace(
        claimed(log.recordings / "r1", entries[0]), chunks=128 * 1024, segment_id=b"x" * 16
    )
    queries, reads = Counter[str](), Counter[str]()
    query, read = Database.query, PackFiles.read
    monkeypatch.setattr(Database, "query", lambda *given: queries.update("q") or query(*given))
    monkeypatch.setattr(PackFiles, "read", lambda *given: reads.update("r") or read(*given))
    everything = (wire.Range(0, 0, 2**61),)
    assert cloud.reason(msgspec.structs.replace(segment, ranges=everything)) == "missing"
    assert reads["r"] < 100
    queries.clear()
    nowhere = tuple(wire.Range(9, i * 2, i * 2 + 1) for i in range(64 * 1024))
    assert cloud.reason(msgspec.structs.replace(segment, ranges=nowhere)) == "missing"
    assert queries["q"] < 20
    cloud.store.close()
