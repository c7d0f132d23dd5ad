"""From a log to the store over real brokers: nothing lost, nothing stored twice, whatever is killed."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest

from brainforge_edge.cloud.ingest.subscriber import Message
from brainforge_edge.cloud.store.chunks import ChunkStore
from brainforge_edge.codec import registry
from brainforge_edge.core import topics
from brainforge_edge.core.events import EventType
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.chunk import footer_crc, read_head
from brainforge_edge.uplink import sender
from tests.broker.conftest import Site
from tests.broker.rig import CHUNK_ROWS, assert_stored_once, stream, wait_for

MAG = stream("opm-mag")
EEG = stream("cyton-eeg", 3)


def test_a_backlog_and_what_comes_after_it_are_stored_once(any_site: Site) -> None:
    log = any_site.log()
    log.fill(MAG, 150, segment_bytes=250_000)
    log.fill(EEG, 40)
    log.close()
    ingest = any_site.ingest().start()
    box = any_site.box().start()
    box.wait_drained()
    for i in range(150, 170):
        box.pump.inbox.put(log.append(MAG, i * CHUNK_ROWS))
        box.pump.inbox.put(log.append(EEG, i * CHUNK_ROWS, incarnation=1))
    wait_for(lambda: box.pump.sender.counts["receipted"] >= 230 and box.is_drained)
    assert ingest.stop() == 0
    assert_stored_once(any_site.cloud, log)


def test_a_broker_killed_again_and_again_loses_nothing(any_site: Site) -> None:
    log = any_site.log()
    log.fill(MAG, 400)
    log.close()
    any_site.ingest().start()
    box = any_site.box(window_chunks=8, backfill_bytes_s=300_000.0).start()
    for already in (20, 120, 240):
        box.wait_receipted(already)
        any_site.broker.kill()
        any_site.broker.start()
    box.wait_drained()
    assert_stored_once(any_site.cloud, log)


def test_an_aggregator_killed_again_and_again_loses_nothing(any_site: Site) -> None:
    log = any_site.log()
    log.fill(MAG, 400)
    log.close()
    ingest = any_site.ingest().start()
    box = any_site.box(window_chunks=8, backfill_bytes_s=300_000.0).start()
    for already in (20, 120, 240):
        box.wait_receipted(already)
        ingest.kill()
        ingest.start()
    box.wait_drained()
    assert_stored_once(any_site.cloud, log)


def test_lost_receipts_are_made_up_for(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 120)
    log.close()
    chance = random.Random(3)
    ingest = site.local_ingest(
        keep_receipt=lambda topic: topic.endswith("/-") or chance.random() < 0.4
    ).start()
    box = site.box().start()
    box.wait_drained()
    assert ingest.count("chunks") == 121
    assert_stored_once(site.cloud, log)


def test_duplicates_and_disorder_on_the_way_change_nothing(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 200, segment_bytes=250_000)
    log.close()
    chance = random.Random(5)
    kept: list[Message] = []

    def scramble(messages: list[Message]) -> list[Message]:
        control = [m for m in messages if "/chunk/" not in m.topic]
        kept.extend(m for m in messages if "/chunk/" in m.topic)
        again = chance.sample(kept, min(5, len(kept)))
        mixed = [m for m in messages if "/chunk/" in m.topic] + again
        chance.shuffle(mixed)
        return control + mixed

    ingest = site.local_ingest(scramble=scramble).start()
    box = site.box().start()
    box.wait_drained()
    wait_for(lambda: ingest.count("duplicates") > 5)
    assert not box.events
    assert_stored_once(site.cloud, log)


def test_garbage_on_every_topic_is_counted_and_stops_nobody(
    any_site: Site, raw: Callable[..., Any]
) -> None:
    log = any_site.log()
    log.fill(MAG, 30)
    log.close()
    ingest = any_site.local_ingest().start()
    wait_for(lambda: ingest.link.connected)
    box = any_site.box().start()
    noise = raw(any_site.broker.port, protocol=4)
    chance = random.Random(9)
    for topic in (
        topics.chunk("bed-1", "opm-mag"),
        topics.chunk("bed-1", "no-such-stream"),
        topics.chunk("stranger", "opm-mag"),
        topics.chunk("Bad_Name", "opm-mag"),
        topics.hello("bed-1"),
        topics.ack("bed-1", "opm-mag"),
        topics.ack("bed-1", "-"),
        topics.ack("bed-1", "opm-mag") + "/more",
    ):
        for length in (0, 1, 127, 128, 4000):
            noise.publish(topic, chance.randbytes(length), qos=1)
        noise.publish(topic, b"BFC1" + bytes(200), qos=1)
    wait_for(lambda: sum(ingest.writer.ignored.values()) >= 30, why=lambda: ingest.writer.ignored)
    box.wait_drained()
    for i in range(30, 40):
        box.pump.inbox.put(log.append(MAG, i * CHUNK_ROWS))
    wait_for(lambda: box.pump.sender.counts["receipted"] >= 42, why=lambda: box.pump.stats)
    assert ingest.writer.ignored["damaged_chunk"]
    assert ingest.writer.ignored["garbage_hello"]
    assert_stored_once(any_site.cloud, log)


def test_a_chunk_larger_than_the_broker_takes_is_refused_here_and_blocks_nobody(
    small_site: Site,
) -> None:
    log = small_site.log()
    log.fill(MAG, 10)
    log.append(MAG, 10 * CHUNK_ROWS, 900)
    log.fill(EEG, 10)
    log.close()
    small_site.ingest().start()
    box = small_site.box().start()
    wait_for(lambda: box.pump.sender.counts["receipted"] == 22, why=lambda: box.pump.stats)
    assert [event[0] for event in box.events] == [EventType.CHUNK_REFUSED]
    assert box.events[0][2]["reason"] == "oversize"
    assert box.pump.stats["refused"] == {"opm-mag": {"oversize": 1}}
    assert box.pump.sender.counts["sent"] == 22  # it never left
    assert box.pump.stats["lag_chunks"] == 1  # and is not forgotten


def test_a_broker_that_stops_answering_is_noticed_and_left(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 300)
    log.close()
    site.ingest().start()
    box = site.box(keepalive_s=1, window_chunks=8, backfill_bytes_s=200_000.0).start()
    wait_for(lambda: box.pump.sender.counts["receipted"] > 20)
    pid = site.broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: box.pump.stats["state"] == "broker absent", why=lambda: box.pump.stats)
    finally:
        os.kill(pid, signal.SIGCONT)
    box.wait_drained()
    assert_stored_once(site.cloud, log)


@pytest.mark.parametrize("raised", [True, False], ids=["generation-raised", "generation-kept"])
def test_a_store_restored_from_a_backup_gets_the_rest_again(site: Site, *, raised: bool) -> None:
    log = site.log()
    log.fill(MAG, 100, segment_bytes=250_000)
    log.close()
    ingest = site.ingest().start()
    box = site.box().start()
    box.wait_drained()
    ingest.stop()
    shutil.copytree(site.cloud, site.root / "backup")
    ingest.start()
    wait_for(lambda: box.pump.stats["state"] == "open")
    for i in range(100, 140):
        box.pump.inbox.put(log.append(MAG, i * CHUNK_ROWS, segment_bytes=250_000))
    wait_for(lambda: box.pump.sender.counts["receipted"] >= 142 and box.is_drained)
    log.close()
    ingest.stop()
    shutil.rmtree(site.cloud)
    shutil.copytree(site.root / "backup", site.cloud)
    if raised:
        store = ChunkStore(site.cloud, decode=registry.decode)
        assert store.raise_generation() == 1
        store.close()
    ingest.start()
    wait_for(lambda: box.pump.sender.counts["moved_back"] > 0, why=lambda: box.pump.stats)
    box.wait_drained()
    assert_stored_once(site.cloud, log)


def test_a_second_box_with_the_same_log_is_refused(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 20)
    log.close()
    shutil.copytree(site.root / "box", site.root / "copy")
    site.local_ingest().start()
    box = site.box().start()
    box.wait_drained()
    clone = site.box("copy").start()
    wait_for(lambda: "clone" in str(clone.events) or clone.events, why=lambda: clone.pump.stats)
    assert clone.events[0][0] is EventType.CLONE_REFUSED
    assert clone.pump.sender.counts["sent"] == 0
    box.pump.inbox.put(log.append(MAG, 20 * CHUNK_ROWS))
    wait_for(lambda: box.pump.sender.counts["receipted"] == 23)
    assert not box.events


def test_a_box_that_comes_back_is_no_clone_and_sends_only_what_is_missing(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 50)
    log.close()
    ingest = site.local_ingest().start()
    first = site.box().start()
    first.wait_drained()
    first.stop()
    log.append(MAG, 50 * CHUNK_ROWS)
    log.close()
    second = site.box().start()
    second.wait_drained()
    assert second.pump.sender.counts["sent"] == 2  # a descriptor and a chunk
    assert ingest.writer.logs.clones == 0
    assert_stored_once(site.cloud, log)


def test_a_lost_cursor_costs_nothing_but_a_look_at_the_log(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 50)
    log.close()
    site.ingest().start()
    first = site.box().start()
    first.wait_drained()
    first.stop()
    for file in (site.root / "box").glob("uplink.sqlite*"):
        file.unlink()
    second = site.box().start()
    second.wait_drained()
    assert second.pump.sender.counts["sent"] == 0
    assert_stored_once(site.cloud, log)


def test_a_poison_chunk_is_left_behind_with_a_reason_and_blocks_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "REFUSAL_PAUSE_S", 0.05)
    log = site.log()
    log.fill(MAG, 20)
    log.close()
    path = log.recordings / "r1" / "opm-mag" / "0001.seg"
    data = bytearray(path.read_bytes())
    at = read_head(bytes(data)).total_bytes
    at += read_head(bytes(data[at:])).total_bytes  # the second chunk of samples
    end = at + read_head(bytes(data[at:])).total_bytes
    data[at + 16] ^= (
        1  # its number of channels, with CRCs that are right: only the aggregator objects
    )
    data[at + 124 : at + 128] = crc32c(data[at : at + 124]).to_bytes(4, "little")
    footer = footer_crc(bytes(data[at + 124 : at + 128]), bytes(data[at + 128 : end - 4]))
    data[end - 4 : end] = footer.to_bytes(4, "little")
    path.write_bytes(data)
    site.ingest().start()
    box = site.box().start()
    box.wait_drained()
    assert box.pump.stats["refused"] == {"opm-mag": {"malformed": sender.MOST_REFUSALS}}
    assert box.pump.stats["quarantined"] == 1
    assert [event[2]["reason"] for event in box.events] == ["malformed"]
    log.held["opm-mag"].remove((0, CHUNK_ROWS, 2 * CHUNK_ROWS))
    assert_stored_once(site.cloud, log)


def test_a_damaged_head_is_named_and_passed(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 20)
    log.close()
    path = log.recordings / "r1" / "opm-mag" / "0001.seg"
    data = bytearray(path.read_bytes())
    data[read_head(bytes(data)).total_bytes + 30] ^= (
        1  # in the header of the first chunk of samples
    )
    path.write_bytes(data)
    site.ingest().start()
    box = site.box().start()
    box.wait_drained()
    assert [event[2]["reason"] for event in box.events] == ["damaged"]
    log.held["opm-mag"].remove((0, 0, CHUNK_ROWS))
    assert_stored_once(site.cloud, log)


def test_without_a_broker_or_an_aggregator_the_box_waits_and_says_so(site: Site) -> None:
    log = site.log()
    log.fill(MAG, 20)
    log.close()
    site.broker.stop()
    box = site.box().start()
    wait_for(lambda: box.pump.stats.get("state") == "broker absent")
    site.broker.start()
    wait_for(lambda: box.pump.stats["state"] == "no aggregator")
    assert box.pump.sender.counts["sent"] == 0
    assert box.pump.stats["lag_chunks"] == 21
    site.ingest().start()
    box.wait_drained()
    assert_stored_once(site.cloud, log)


def test_an_aggregator_whose_disk_fails_gives_no_receipts_and_recovers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = site.log()
    log.fill(MAG, 60)
    log.close()
    ingest = site.local_ingest()
    failing = [True]
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        if failing[0]:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr("brainforge_edge.cloud.store.packs.os.fdatasync", fdatasync)
    ingest.start()
    box = site.box().start()
    wait_for(lambda: ingest.writer.failing)
    assert box.pump.sender.counts["receipted"] == 0
    failing[0] = False
    box.wait_drained()
    assert_stored_once(site.cloud, log)
