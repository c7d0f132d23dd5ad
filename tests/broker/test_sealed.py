"""Sealed recordings on their way: keys go before chunks, and nothing leaves the box in the clear."""

import shutil
from base64 import b64encode
from pathlib import Path

import msgspec

from brainforge_edge.cloud.ingest.subscriber import Message
from brainforge_edge.cloud.store.keys import KeyShelf
from brainforge_edge.core.config import SealConfig
from brainforge_edge.core.wire import Keys, SealedKey
from brainforge_edge.recorder.erasure import erase_keys
from brainforge_edge.recorder.keyfile import change_keys, read_keys
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.keyscraps import ErasedKey
from brainforge_edge.security.keystore import FileKeyStore, make_pair
from brainforge_edge.security.wrap import Recipient, with_recipient
from brainforge_edge.storage.files import SystemDisk
from tests.broker.conftest import Site
from tests.broker.rig import CHUNK_ROWS, BoxLog, assert_stored_once, rows_of, stream, wait_for
from tests.unit.erasure_material import hits

MAG = stream("opm-mag")
EEG = stream("cyton-eeg", 3)
DISK = SystemDisk()


def pair(site: Site, role: str) -> Recipient:
    folder = site.root / f"{role}-keys"
    folder.mkdir()
    return make_pair(folder, role, DISK.write_new)


def private(site: Site, role: str = "aggregator") -> FileKeyStore:
    return FileKeyStore(site.root / f"{role}-keys")


def seal(site: Site, *, aggregator: bool = True) -> SealConfig:
    public = site.root / "aggregator-keys" / "aggregator.pem"
    return SealConfig(enabled=True, aggregator=str(public) if aggregator else "")


def test_sealed_chunks_and_their_keys_arrive_on_every_broker(any_site: Site) -> None:
    log = any_site.log(for_=(pair(any_site, "box"), pair(any_site, "aggregator")))
    log.fill(MAG, 30, segment_bytes=250_000)
    log.fill(EEG, 20, recording="r2")
    log.close()
    any_site.ingest().start()
    box = any_site.box(seal=seal(any_site)).start()
    box.wait_drained()
    assert_stored_once(any_site.cloud, log, private=private(any_site))
    assert box.pump.stats["held_back"] == {}
    kept = list((any_site.cloud / "keys" / log.log_id.hex()).glob("*.json"))
    assert len(kept) == 2


def test_neither_the_store_nor_the_wire_holds_a_readable_row(site: Site) -> None:
    log = site.log(for_=(pair(site, "aggregator"),))
    log.fill(MAG, 20)
    log.close()
    seen = bytearray()
    ingest = site.local_ingest(scramble=lambda messages: _noted(messages, seen)).start()
    box = site.box(seal=seal(site)).start()
    box.wait_drained()
    wait_for(lambda: ingest.count("chunks") >= 21)
    files = [path for path in site.root.rglob("*") if path.is_file()]
    for i in range(20):
        row = rows_of(MAG, i * CHUNK_ROWS + 7, 1).tobytes()
        assert row not in seen
        assert not [path for path in files if row in path.read_bytes()]


def _noted(messages: list[Message], seen: bytearray) -> list[Message]:
    for message in messages:
        seen.extend(message.payload)
    return messages


def test_an_aggregator_that_lost_the_keys_gets_them_again(site: Site) -> None:
    log = site.log(for_=(pair(site, "aggregator"),))
    announced = log.fill(MAG, 10)
    ingest = site.ingest().start()
    box = site.box(seal=seal(site)).start()
    for message in announced:
        box.pump.inbox.put(message)
    box.wait_receipted(11)
    assert ingest.stop() == 0
    shutil.rmtree(site.cloud / "keys")
    ingest.start()
    for i in range(10, 20):
        box.pump.inbox.put(log.append(MAG, i * CHUNK_ROWS))
    wait_for(lambda: box.pump.sender.counts["receipted"] >= 21 and box.is_drained)
    assert_stored_once(site.cloud, log, private=private(site))
    assert box.pump.stats["quarantined"] == 0


def test_without_an_aggregators_key_all_stays_here_until_it_is_wrapped_for_it(site: Site) -> None:
    """A box that is enrolled later: the box's own key opens what was recorded meanwhile."""
    log = site.log(for_=(pair(site, "box"),))
    log.fill(MAG, 10)
    log.close()
    site.ingest().start()
    box = site.box(seal=SealConfig(enabled=True)).start()
    wait_for(lambda: box.pump.stats.get("held_back") == {"no_aggregator_key": 10})
    box.stop()
    aggregator = pair(site, "aggregator")
    box = site.box(seal=seal(site)).start()
    wait_for(lambda: box.pump.stats.get("held_back") == {"not_for_aggregator": 10})
    assert box.pump.sender.counts["receipted"] <= 1  # the descriptor
    _rewrap(log, private(site, "box"), aggregator)
    box.pump.look_again()
    box.wait_drained()
    assert_stored_once(site.cloud, log, private=private(site))


def _rewrap(log: BoxLog, box: FileKeyStore, recipient: Recipient) -> None:
    folder = log.recordings / "r1"
    ring = Keyring(box, in_folders([folder], DISK))
    change_keys(
        folder, log.log_id, DISK,
        lambda keys: tuple(
            with_recipient(
                entry, ring.key(log.log_id, bytes.fromhex(entry.key_id)), log.log_id, recipient
            )
            for entry in keys
        ),
    )  # fmt: skip


def test_what_was_recorded_in_the_clear_is_not_sent_once_the_box_seals(site: Site) -> None:
    pair(site, "aggregator")
    log = site.log()
    log.fill(MAG, 10)
    log.close()
    site.ingest().start()
    box = site.box(seal=seal(site)).start()
    wait_for(lambda: box.pump.stats.get("held_back") == {"not_sealed": 10})
    assert box.pump.sender.counts["receipted"] <= 1


def test_keys_of_a_log_that_is_not_the_nodes_own_are_ignored(site: Site, tmp_path: Path) -> None:
    log = site.log(for_=(pair(site, "aggregator"),))
    log.fill(MAG, 3)
    log.close()
    ingest = site.local_ingest().start()
    box = site.box(seal=seal(site)).start()
    box.wait_drained()
    before = _files(site.cloud / "keys")
    box.pump.connection.publish("bf/v1/bed-2/keys", _keys_of(log), qos=1)
    box.pump.connection.publish("bf/v1/bed-1/keys", b"\xc1", qos=1)
    wait_for(lambda: {"foreign_keys", "malformed_keys"} <= set(ingest.writer.ignored))
    assert _files(site.cloud / "keys") == before


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.json")}


def _keys_of(log: BoxLog) -> bytes:
    forged = SealedKey("00" * 8, "", "opm", (("00" * 8, "aggregator", bytes(113)),))
    return msgspec.msgpack.encode(Keys(log.log_id, (forged,)))


def test_a_key_that_came_later_into_the_file_is_found_at_once(site: Site) -> None:
    """As of a worker that was started again: nothing waits for the next look at the disk."""
    recipients = (pair(site, "aggregator"),)
    log = site.log(for_=recipients)
    site.ingest().start()
    box = site.box(seal=seal(site)).start()
    box.pump.inbox.put(log.append(MAG, 0))
    box.wait_receipted(2)
    log.close()
    again = BoxLog(log.root, for_=recipients, seed=8)
    site.stack.callback(again.close)
    box.pump.inbox.put(again.append(MAG, CHUNK_ROWS))
    box.wait_receipted(4)
    assert box.pump.stats["held_back"] == {}
    log.held[MAG.stream_id] += again.held[MAG.stream_id]
    assert_stored_once(site.cloud, log, private=private(site))


def test_what_was_erased_at_the_box_never_leaves_it(site: Site) -> None:
    log = site.log(for_=(pair(site, "box"), pair(site, "aggregator")))
    log.fill(MAG, 10)
    log.close()
    folder = log.recordings / "r1"
    erase_keys(folder, "", log_id=log.log_id, order="77", utc_ns=None, disk=DISK)
    site.ingest().start()
    box = site.box(seal=seal(site)).start()
    wait_for(lambda: box.pump.stats.get("held_back") == {"erased": 10})
    assert box.pump.sender.counts["receipted"] <= 1  # the descriptor
    assert _files(site.cloud / "keys") == {}


def test_a_key_that_was_erased_at_the_aggregator_is_not_taken_again(site: Site) -> None:
    """By an ingest that ran on, and has it in memory; chunks that come later are stored as they are."""
    log = site.log(for_=(pair(site, "aggregator"),))
    announced = log.fill(MAG, 3)
    ingest = site.local_ingest().start()
    box = site.box(seal=seal(site)).start()
    for message in announced:
        box.pump.inbox.put(message)
    box.wait_receipted(4)
    found = read_keys(log.recordings / "r1", DISK)
    assert found is not None
    (entry,) = found.keys
    KeyShelf(site.cloud).erase(log.log_id, ErasedKey(entry.key_id, None, "77"))
    wrapped = tuple((each.to, each.role, each.sealed) for each in entry.wrapped)
    again = SealedKey(entry.key_id, entry.participant, entry.device, wrapped)
    payload = msgspec.msgpack.encode(Keys(log.log_id, (again,)))
    box.pump.connection.publish("bf/v1/bed-1/keys", payload, qos=1)
    wait_for(lambda: ingest.writer.ignored["erased_key"])
    box.pump.inbox.put(log.append(MAG, 3 * CHUNK_ROWS))
    box.wait_receipted(5)
    assert _files(site.cloud / "keys") == {}


def test_no_broker_keeps_a_wrapped_key_once_it_was_delivered(any_site: Site) -> None:
    """An erasure could not reach it there; only box and aggregator have it."""
    log = any_site.log(for_=(pair(any_site, "box"), pair(any_site, "aggregator")))
    log.fill(MAG, 10)
    log.close()
    any_site.ingest().start()
    box = any_site.box(seal=seal(any_site)).start()
    box.wait_drained()
    box.stop()
    any_site.broker.stop()
    found = read_keys(log.recordings / "r1", DISK)
    assert found is not None
    sealed = [each.sealed for entry in found.keys for each in entry.wrapped]
    wanted = [form for each in sealed for form in (each, b64encode(each))]
    assert {Path(name).name for name in hits([any_site.root], wanted)} == {
        "keys",
        f"{found.keys[0].key_id}.json",
    }
