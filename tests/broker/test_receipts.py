"""Signed receipts over real brokers: who cannot sign moves no cursor, and delays at most."""

import shutil
from collections.abc import Callable
from typing import Any

import msgspec

from brainforge_edge.cli.status import uplink_sentence
from brainforge_edge.cloud.store.chunks import ChunkStore
from brainforge_edge.codec import registry
from brainforge_edge.core import topics, wire
from brainforge_edge.core.events import EventType
from brainforge_edge.security.sign import Signed, acknowledging
from tests.broker.conftest import Site
from tests.broker.rig import CHUNK_ROWS, Box, assert_stored_once, stream, wait_for
from tests.broker.signing import ACK_LOG, keys, signed_for

MAG = stream("opm-mag")
EEG = stream("cyton-eeg", 3)
ACK_MAG = topics.ack("bed-1", MAG.stream_id)


def restore(site: Site, backup: str, *, raised: int) -> None:
    """Put a backup in the store's place and raise its generation so many times."""
    shutil.rmtree(site.cloud)
    shutil.copytree(site.root / backup, site.cloud)
    store = ChunkStore(site.cloud, decode=registry.decode)
    for _ in range(raised):
        store.raise_generation()
    store.close()


def forged(box: Box) -> list[dict[str, Any]]:
    return [data for kind, _, data in box.events if kind is EventType.RECEIPT_FORGED]


def test_signed_receipts_deliver_on_every_broker(any_site: Site) -> None:
    signing = keys(any_site)
    log = any_site.log()
    log.fill(MAG, 100, segment_bytes=250_000)
    log.fill(EEG, 30)
    log.close()
    ingest = any_site.ingest(signer=signing.private).start()
    box = any_site.box(signer=signing.public).start()
    box.wait_drained()
    for i in range(100, 110):
        box.pump.inbox.put(log.append(MAG, i * CHUNK_ROWS))
    wait_for(lambda: box.pump.sender.counts["receipted"] >= 141 and box.is_drained)
    assert ingest.stop() == 0
    assert box.pump.stats["forged"] == 0
    assert not box.events
    assert_stored_once(any_site.cloud, log)


def test_everything_that_the_aggregator_says_is_signed_for_its_topic(
    site: Site, raw: Callable[..., Any]
) -> None:
    signing = keys(site)
    heard: list[tuple[str, bytes]] = []
    listener = raw(site.broker.port, on_message=lambda t, p: heard.append((t, p)))
    listener.subscribe("bf/v1/+/ack/#", 1)
    log = site.log()
    log.fill(MAG, 10)
    log.close()
    ingest = site.ingest(signer=signing.private).start()
    box = site.box(signer=signing.public).start()
    box.wait_drained()
    ingest.stop()
    ingest.start()  # asks the node that it knows for a hello
    wait_for(lambda: any(b"started" in payload for _, payload in heard))
    assert {topic for topic, _ in heard} == {ACK_MAG, ACK_LOG}
    for topic, payload in heard:
        said = msgspec.msgpack.decode(payload, type=Signed)
        assert signing.verifier.is_genuine(acknowledging(topic), said)


def test_a_box_without_the_key_takes_what_is_signed_and_what_is_not(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 10)
    log.close()
    ingest = site.ingest(signer=keys(site).private).start()
    box = site.box().start()
    box.wait_drained()
    ingest.stop()
    site.ingest().start()
    box.pump.inbox.put(log.append(MAG, 10 * CHUNK_ROWS))
    box.wait_receipted(13)
    assert_stored_once(site.cloud, log)


def test_forged_receipts_move_no_cursor_and_the_recording_arrives_whole(
    any_site: Site, raw: Callable[..., Any]
) -> None:
    """While no aggregator is there, a third client says that all is stored, in every way that it can."""
    signing, stranger = keys(any_site), keys(any_site, "stranger")
    log = any_site.log()
    log.fill(MAG, 400)
    log.close()
    genuine = any_site.ingest(signer=signing.private).start()
    box = any_site.box(signer=signing.public, window_chunks=8, backfill_bytes_s=300_000.0).start()
    box.wait_receipted(5)
    genuine.kill()
    forger = raw(any_site.broker.port, protocol=4)
    assert forger.publish(ACK_LOG, b"what was on its way has come when this has", qos=1)
    wait_for(lambda: box.pump.acks.counts["forged"] == 1)
    receipted = box.pump.sender.counts["receipted"]
    assert receipted < 401

    everything = wire.Receipt(
        log.log_id, 0, MAG.stream_id, (wire.Range(0, 0, 10**6),), others=_first_chunks(box)
    )
    resume = wire.Resume(
        log.log_id, "", ((0, wire.StreamInventory(MAG.stream_id, 0, everything.ranges)),)
    )
    refusal = wire.Receipt(
        log.log_id, 0, MAG.stream_id, (), (wire.Refusal(bytes(16), 3, "crc"),) * 5
    )
    here = acknowledging(ACK_MAG)
    body = msgspec.msgpack.encode(everything)
    ours = signing.signer.sign(here, body)
    messages = [
        (ACK_MAG, body),
        (ACK_MAG, msgspec.msgpack.encode(refusal)),
        (ACK_LOG, msgspec.msgpack.encode(resume)),
        (ACK_LOG, msgspec.msgpack.encode(wire.Ask("started"))),
        (ACK_MAG, signed_for(stranger.signer, ACK_MAG, everything)),
        (ACK_LOG, signed_for(stranger.signer, ACK_LOG, resume)),
        # Genuine, and said to another box, under another stream, or as something else.
        (ACK_MAG, signed_for(signing.signer, topics.ack("bed-2", MAG.stream_id), everything)),
        (ACK_MAG, signed_for(signing.signer, topics.ack("bed-1", EEG.stream_id), everything)),
        (ACK_MAG, msgspec.msgpack.encode(signing.signer.sign("attestation", body))),
        # A genuine signature under other bytes, or none under the right name.
        (ACK_MAG, msgspec.msgpack.encode(Signed(body + b"\0", ours.signer, ours.signature))),
        (ACK_MAG, msgspec.msgpack.encode(Signed(body, ours.signer, b""))),
        (ACK_MAG, b""),
        (ACK_MAG, b"\x91" * 100_000),
    ]
    for topic, payload in messages:
        assert forger.publish(topic, payload, qos=1)
    wait_for(lambda: box.pump.stats["forged"] > len(messages), why=lambda: box.pump.stats)
    assert box.pump.stats["forged"] == 1 + len(messages)
    assert box.pump.sender.counts["receipted"] == receipted
    assert box.pump.stats["quarantined"] == 0
    assert len(forged(box)) == 1, "one event a connection, however many messages"

    any_site.ingest(signer=signing.private).start()
    box.wait_drained()
    assert_stored_once(any_site.cloud, log)


def _first_chunks(box: Box) -> tuple[tuple[bytes, int], ...]:
    return tuple((track.segment_id, 0) for track in box.pump.sender.lanes._index.order)


def test_an_unsigned_aggregator_is_not_believed_and_status_says_so_in_words(site: Site) -> None:
    signing = keys(site)
    log = site.log()
    log.fill(MAG, 20)
    log.close()
    unsigned = site.ingest().start()
    box = site.box(signer=signing.public).start()
    wait_for(lambda: box.pump.stats.get("forged"), why=lambda: box.pump.stats)
    assert box.pump.stats["state"] == "no aggregator"
    assert box.pump.sender.counts["sent"] == 0
    said = uplink_sentence(box.pump.stats)
    assert "not signed by the aggregator of this site" in said
    assert "recordings are kept here" in said
    assert "21 chunks" in said
    assert forged(box) == [{"topic": ACK_LOG, "reason": "unsigned"}]
    unsigned.stop()
    site.ingest(signer=signing.private).start()
    box.wait_drained()
    assert box.pump.stats["why"] == ""
    assert_stored_once(site.cloud, log)


def test_a_store_restored_from_yesterdays_backup_gets_the_rest_again(site: Site) -> None:
    """With its generation raised, signed; and what was receipted before the restore, played again, moves nothing."""
    signing = keys(site)
    log = site.log()
    log.fill(MAG, 60, segment_bytes=250_000)
    log.close()
    ingest = site.ingest(signer=signing.private).start()
    box = site.box(signer=signing.public).start()
    box.wait_drained()
    ingest.stop()
    shutil.copytree(site.cloud, site.root / "backup")
    ingest.start()
    wait_for(lambda: box.pump.stats["state"] == "open")
    for i in range(60, 100):
        box.pump.inbox.put(log.append(MAG, i * CHUNK_ROWS, segment_bytes=250_000))
    wait_for(lambda: box.pump.sender.counts["receipted"] >= 102 and box.is_drained)
    log.close()
    ingest.stop()
    restore(site, "backup", raised=1)
    ingest.start()
    wait_for(lambda: box.pump.sender.counts["moved_back"] > 0, why=lambda: box.pump.stats)
    box.wait_drained()
    assert box.pump.stats["store_generation"] == 1
    assert box.pump.stats["forged"] == 0
    assert_stored_once(site.cloud, log)


def test_a_receipt_of_an_older_generation_played_again_is_ignored(
    site: Site, raw: Callable[..., Any]
) -> None:
    signing = keys(site)
    log = site.log()
    log.fill(MAG, 10)
    log.close()
    ingest = site.ingest(signer=signing.private).start()
    ingest.stop()
    shutil.copytree(site.cloud, site.root / "backup")
    restore(site, "backup", raised=2)
    ingest.start()
    box = site.box(signer=signing.public).start()
    box.wait_drained()
    assert box.pump.stats["store_generation"] == 2
    ingest.kill()
    box.pump.inbox.put(log.append(MAG, 10 * CHUNK_ROWS))
    old = wire.Receipt(log.log_id, 0, MAG.stream_id, (wire.Range(0, 0, 10**6),), store_generation=1)
    forger = raw(site.broker.port)
    before = box.pump.sender.counts["receipted"]
    assert forger.publish(ACK_MAG, signed_for(signing.signer, ACK_MAG, old), qos=1)
    wait_for(lambda: box.pump.stats["outdated"] == 1, why=lambda: box.pump.stats)
    assert box.pump.sender.counts["receipted"] == before
    assert box.pump.stats["forged"] == 0
    ingest.start()
    box.wait_drained()
    assert_stored_once(site.cloud, log)


def test_a_backup_put_back_without_a_word_is_waited_for_and_named(site: Site) -> None:
    """Its generation is older than one that was signed: nothing moves until `cloud restored` was run there."""
    signing = keys(site)
    log = site.log()
    log.fill(MAG, 10)
    log.close()
    ingest = site.ingest(signer=signing.private).start()
    ingest.stop()
    shutil.copytree(site.cloud, site.root / "backup")
    restore(site, "backup", raised=1)
    ingest.start()
    box = site.box(signer=signing.public).start()
    box.wait_drained()
    ingest.stop()
    restore(site, "backup", raised=0)
    ingest.start()
    box.pump.inbox.put(log.append(MAG, 10 * CHUNK_ROWS))
    wait_for(lambda: "cloud restored" in box.pump.stats["why"], why=lambda: box.pump.stats)
    assert "recordings are kept here" in uplink_sentence(box.pump.stats)
    ingest.stop()
    restore(site, "backup", raised=2)
    ingest.start()
    box.wait_drained()
    assert_stored_once(site.cloud, log)


def test_what_was_forged_before_the_key_was_known_counts_for_nothing_after(site: Site) -> None:
    """A generation that nobody signed may be any number."""
    signing = keys(site)
    log = site.log()
    log.fill(MAG, 10)
    log.close()
    ingest = site.ingest().start()
    ingest.stop()
    shutil.copytree(site.cloud, site.root / "backup")
    restore(site, "backup", raised=3)
    ingest.start()
    box = site.box().start()
    box.wait_drained()
    assert box.pump.stats["store_generation"] == 3
    box.stop()
    ingest.stop()
    restore(site, "backup", raised=0)
    site.ingest(signer=signing.private).start()
    box = site.box(signer=signing.public).start()
    box.wait_drained()
    assert box.pump.stats["store_generation"] == 0
    assert_stored_once(site.cloud, log)
