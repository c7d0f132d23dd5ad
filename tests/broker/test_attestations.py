"""Closed segments are claimed, read back from the store and signed for, over real brokers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.cli.status import uplink_sentence
from brainforge_edge.cloud.store.chunks import ChunkStore
from brainforge_edge.codec import registry
from brainforge_edge.core import topics, wire
from brainforge_edge.recorder.attested import AttestedSegment, read_attested
from brainforge_edge.recorder.chain import ATTESTED_FILE, CHAIN_FILE, ChainEntry, read_lines
from brainforge_edge.security.sign import ATTESTATION
from tests.broker.conftest import Site
from tests.broker.rig import CHUNK_ROWS, Box, BoxLog, stream, wait_for
from tests.broker.signing import (
    ACK_LOG,
    DISK,
    Keys,
    claimed,
    close,
    heads,
    keys,
    signed_for,
)

MAG = stream("opm-mag")
EEG = stream("cyton-eeg", 3)


def attested(log: BoxLog, signing: Keys, recording: str = "r1") -> dict[bytes, wire.Attestation]:
    """What the retention of the box would find, each signature checked."""
    folder = log.recordings / recording
    entries = read_lines(folder / CHAIN_FILE, DISK, ChainEntry)
    return read_attested(folder, entries, DISK, log_id=log.log_id, verifier=signing.verifier)


def wait_attested(box: Box, n: int) -> None:
    wait_for(lambda: box.pump.claims.attested >= n, why=lambda: box.pump.stats)


def delivered(site: Site, signing: Keys, **options: Any) -> tuple[BoxLog, Box]:
    """A recording of several segments whose chunks are all receipted."""
    log = site.log()
    log.fill(MAG, 60, segment_bytes=150_000)
    log.fill(EEG, 20)
    log.close()
    box = site.box(signer=signing.public, **options).start()
    box.wait_drained()
    return log, box


def test_closed_segments_are_attested_on_every_broker(any_site: Site) -> None:
    signing = keys(any_site)
    any_site.ingest(signer=signing.private).start()
    log, box = delivered(any_site, signing)
    entries = close(log.recordings / "r1")
    assert len(entries) > 2
    box.pump.look_again()
    wait_attested(box, len(entries))
    found = attested(log, signing)
    assert set(found) == {entry.segment_id for entry in entries}
    assert {said.store_generation for said in found.values()} == {0}
    assert box.pump.stats["denied"] == {}
    assert box.pump.stats["forged"] == 0


def test_nothing_is_claimed_twice_and_what_is_closed_later_follows(site: Site) -> None:
    signing = keys(site)
    ingest = site.local_ingest(signer=signing.signer).start()
    log, box = delivered(site, signing)
    first = close(log.recordings / "r1")
    box.pump.look_again()
    wait_attested(box, len(first))
    box.stop()
    log.fill(MAG, 10, recording="r2", incarnation=1)
    log.close()
    close(log.recordings / "r2")
    again = site.box(signer=signing.public).start()
    wait_attested(again, 1)
    assert len(attested(log, signing, "r2")) == 1
    assert ingest.writer.claims.attested == len(first) + 1
    lines = (log.recordings / "r1" / ATTESTED_FILE).read_bytes().splitlines()
    assert len(lines) == len(first)


def test_a_segment_of_which_a_chunk_was_left_behind_is_not_claimed(site: Site) -> None:
    signing = keys(site)
    log = site.log()
    log.fill(MAG, 20)
    log.fill(EEG, 20)
    log.close()
    assert len(close(log.recordings / "r1")) == 2
    path = log.recordings / "r1" / MAG.stream_id / "0001.seg"
    data = bytearray(path.read_bytes())
    data[heads(path)[5][0] + 200] ^= 1  # in a body
    path.write_bytes(data)
    ingest = site.local_ingest(signer=signing.signer).start()
    box = site.box(signer=signing.public).start()
    wait_attested(box, 1)
    wait_for(lambda: box.pump.stats["quarantined"] == 1, why=lambda: box.pump.stats)
    wait_for(lambda: len(box.pump.claims._index._finished) == 2)
    assert not box.pump.claims._next()
    assert {said.segment.stream_id for said in attested(log, signing).values()} == {EEG.stream_id}
    assert ingest.writer.claims.denied == {}


def test_a_store_that_was_changed_or_lacks_a_chunk_does_not_attest(site: Site) -> None:
    signing = keys(site)
    ingest = site.ingest(signer=signing.private).start()
    log, box = delivered(site, signing)
    box.stop()
    ingest.stop()
    entries = close(log.recordings / "r1")
    _flip_a_byte(site.cloud, MAG.stream_id)
    _drop_a_chunk(site.cloud, log.log_id, EEG.stream_id)
    ingest.start()
    again = site.box(signer=signing.public)
    # The box believes what was receipted: the aggregator says that it holds the samples.
    again.start()
    wait_for(
        lambda: again.pump.claims.attested + sum(again.pump.claims.denied.values()) == len(entries),
        why=lambda: again.pump.stats,
    )
    assert again.pump.claims.denied == {"different": 1, "missing": 1}
    assert len(attested(log, signing)) == len(entries) - 2
    wait_for(lambda: again.pump.stats["denied"])
    assert "2 closed segments are not in the aggregator's store" in uplink_sentence(
        again.pump.stats
    )


def _flip_a_byte(cloud: Path, stream_id: str) -> None:
    (path,) = (cloud / "store").glob(f"*/{stream_id}/*.pack")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _drop_a_chunk(cloud: Path, log_id: bytes, stream_id: str) -> None:
    """The store says of the chunk's samples that they lie in another place: as an overlap would."""
    store = ChunkStore(cloud, decode=registry.decode)
    (number,) = (s.row for key, s in store._streams.items() if key.stream_id == stream_id)
    pieces = store._catalogue.query(
        'SELECT first, pack, "offset", length FROM piece WHERE stream = ? ORDER BY first', (number,)
    )
    store._catalogue.execute(
        'UPDATE piece SET pack = ?, "offset" = ?, length = ? WHERE stream = ? AND first = ?',
        (*pieces[0][1:], number, pieces[1][0]),
    )
    store.close()


def test_claims_of_another_box_and_garbage_are_ignored_and_counted(
    site: Site, raw: Callable[..., Any]
) -> None:
    signing = keys(site)
    ingest = site.local_ingest(signer=signing.signer).start()
    log, _ = delivered(site, signing)
    entries = close(log.recordings / "r1")
    claim = wire.Claim(log.log_id, "t", (claimed(log.recordings / "r1", entries[0]),))
    heard: list[bytes] = []
    stranger = raw(site.broker.port, on_message=lambda _t, p: heard.append(p))
    stranger.subscribe(topics.ack("bed-2", "+"), 1)
    assert stranger.publish(topics.claim("bed-2"), msgspec.msgpack.encode(claim), qos=1)
    assert stranger.publish(topics.claim("bed-1"), b"\xc1garbage", qos=1)
    wait_for(lambda: {"foreign_claim", "malformed_claim"} <= set(ingest.writer.ignored))
    wait_for(lambda: heard)  # it is asked to say hello, and nothing else
    assert all(b"Answer" not in payload for payload in heard)


def test_statements_that_prove_nothing_are_not_kept(site: Site) -> None:
    """Said on the right topic, to the right claim: but about other bytes, another log, an older store, or by nobody."""
    signing, stranger = keys(site), keys(site, "stranger")
    site.ingest(signer=signing.private).start()
    log, box = delivered(site, signing)
    box.stop()  # its pump's thread: the rest is said to it by hand
    entries = close(log.recordings / "r1")
    segment = claimed(log.recordings / "r1", entries[0])
    claims = box.pump.claims
    claims.look()
    for said, signer in (
        (wire.Attestation(log.log_id, segment, 1, 1), signing.signer),
        (wire.Attestation(bytes(16), segment, 0, 1), signing.signer),
        (wire.Attestation(log.log_id, segment, 0, 1), stranger.signer),
        (
            wire.Attestation(log.log_id, msgspec.structs.replace(segment, sha256=bytes(32)), 0, 1),
            signing.signer,
        ),
    ):
        claims.void()
        claims._asked, claims._token = {segment.segment_id}, "t"
        signed = signer.sign(ATTESTATION, msgspec.msgpack.encode(said))
        for token in ("old", "t"):
            answer = wire.Answer(
                log.log_id, token, segment.segment_id, msgspec.msgpack.encode(signed)
            )
            claims.answered(answer, 0, 0.0)
            assert claims.denied == ({} if token == "old" else {"unproven": 1})
    assert not attested(log, signing)
    assert claims.attested == 0


def test_an_old_answer_played_again_is_ignored(site: Site, raw: Callable[..., Any]) -> None:
    """Its token is of another claim; without it the aggregator has to read again."""
    signing = keys(site)
    site.ingest(signer=signing.private).start()
    log, box = delivered(site, signing)
    entries = close(log.recordings / "r1")
    segment = claimed(log.recordings / "r1", entries[0])
    said = wire.Attestation(log.log_id, segment, 0, 1)
    statement = signing.signer.sign(ATTESTATION, msgspec.msgpack.encode(said))
    answer = wire.Answer(
        log.log_id, "of long ago", segment.segment_id, msgspec.msgpack.encode(statement)
    )
    forger = raw(site.broker.port)
    payload = signed_for(signing.signer, ACK_LOG, answer)
    for _ in range(5):
        assert forger.publish(ACK_LOG, payload, qos=1)
    box.pump.look_again()
    wait_attested(box, len(entries))
    found = attested(log, signing)
    assert found[segment.segment_id].attested_utc_ns > 1


def test_a_torn_line_costs_one_more_claim_and_no_other_line(site: Site) -> None:
    signing = keys(site)
    site.ingest(signer=signing.private).start()
    log, box = delivered(site, signing)
    entries = close(log.recordings / "r1")
    box.pump.look_again()
    wait_attested(box, len(entries))
    box.stop()
    path = log.recordings / "r1" / ATTESTED_FILE
    path.write_bytes(path.read_bytes()[:-40])
    assert len(attested(log, signing)) == len(entries) - 1
    again = site.box(signer=signing.public).start()
    wait_attested(again, 1)
    assert len(attested(log, signing)) == len(entries)
    assert len(read_lines(path, DISK, AttestedSegment)) == len(entries)


def test_attestations_of_a_store_that_was_lost_are_set_aside_and_asked_for_anew(
    site: Site,
) -> None:
    """Restored from yesterday's backup: no line says any more that it holds what it lost."""
    signing = keys(site)
    ingest = site.ingest(signer=signing.private).start()
    log = site.log()
    log.fill(MAG, 20, segment_bytes=150_000)
    log.close()
    box = site.box(signer=signing.public).start()
    box.wait_drained()
    ingest.stop()
    shutil.copytree(site.cloud, site.root / "backup")
    ingest.start()
    for i in range(20, 60):
        box.pump.inbox.put(log.append(MAG, i * CHUNK_ROWS, segment_bytes=150_000))
    box.wait_receipted(62)
    log.close()
    entries = close(log.recordings / "r1")
    box.pump.look_again()
    wait_attested(box, len(entries))
    ingest.stop()
    shutil.rmtree(site.cloud)
    shutil.copytree(site.root / "backup", site.cloud)
    store = ChunkStore(site.cloud, decode=registry.decode)
    assert store.raise_generation() == 1
    store.close()
    ingest.start()
    wait_attested(box, 2 * len(entries))
    assert {said.store_generation for said in attested(log, signing).values()} == {1}
    assert len(attested(log, signing)) == len(entries)
    assert (log.recordings / "r1" / f"{ATTESTED_FILE}.1").is_file()


def test_attestations_are_set_aside_when_an_older_store_answers_and_not_for_an_old_receipt(
    site: Site, raw: Callable[..., Any]
) -> None:
    """A Receipt may be played again, an answer to our hello may not: what was signed for is not there."""
    signing = keys(site)
    site.ingest(signer=signing.private).start().stop()
    shutil.copytree(site.cloud, site.root / "backup")
    store = ChunkStore(site.cloud, decode=registry.decode)
    assert store.raise_generation() == 1
    store.close()
    ingest = site.ingest(signer=signing.private).start()
    log, box = delivered(site, signing)
    entries = close(log.recordings / "r1")
    box.pump.look_again()
    wait_attested(box, len(entries))
    old = wire.Receipt(log.log_id, 0, MAG.stream_id, (), store_generation=0)
    ack = topics.ack("bed-1", MAG.stream_id)
    raw(site.broker.port).publish(ack, signed_for(signing.signer, ack, old), qos=1)
    wait_for(lambda: box.pump.stats["outdated"] == 1, why=lambda: box.pump.stats)
    assert len(attested(log, signing)) == len(entries)
    ingest.stop()
    shutil.rmtree(site.cloud)
    shutil.copytree(site.root / "backup", site.cloud)
    ingest.start()
    box.pump.inbox.put(log.append(MAG, 60 * CHUNK_ROWS, recording="r2"))
    wait_for(lambda: "cloud restored" in box.pump.stats["why"], why=lambda: box.pump.stats)
    wait_for(lambda: not attested(log, signing))
    assert (log.recordings / "r1" / f"{ATTESTED_FILE}.1").is_file()
    assert box.pump.stats["store_generation"] == 1


def test_without_the_key_nothing_is_claimed(site: Site) -> None:
    ingest = site.local_ingest(signer=keys(site).signer).start()
    log = site.log()
    log.fill(MAG, 10)
    log.close()
    close(log.recordings / "r1")
    box = site.box().start()
    box.wait_drained()
    box.pump.look_again()
    wait_for(lambda: not box.pump.sender.look_again)
    assert ingest.writer.claims.attested == 0
    assert not (log.recordings / "r1" / ATTESTED_FILE).exists()
