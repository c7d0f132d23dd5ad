"""Four participants in one sealed session at a box, what of it is delivered, and a search for what must be gone."""

from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming
from brainforge_edge.codec import registry
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.core.wire import StreamInventory
from brainforge_edge.fleet.erasure import BoxErasure
from brainforge_edge.recorder.catalog import RecordingFile, close_recording, write_recording_file
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.exports import ExportNote, add_note
from brainforge_edge.recorder.keyfile import read_keys
from brainforge_edge.recorder.keyring import Find, Keyring, in_folders
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.sealing import Sealing
from brainforge_edge.recorder.segment import SegmentWriter, segment_files
from brainforge_edge.security.keystore import FileKeyStore
from brainforge_edge.security.order import AGGREGATOR, EraseOrder
from brainforge_edge.security.seal import DataKey
from brainforge_edge.security.wrap import Recipient
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.openfiles import open_below
from tests.unit.recorder_box import encode
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import IDENTITY, NO_FLAGS, packed, seeded, stream, t_of
from tests.unit.sealed_material import DISK, pair

NODE = "bed-1"
RECORDING = "rec-1"
PEOPLE = ("p1", "p2", "p3", "p4")
ROLES = ("box", "aggregator", "recovery")
NOW_NS = 1_800_000_000_000_000_000
ORDER_ID = "0123456789abcdef"
DAY_NS = 86_400_000_000_000


def info_of(who: str) -> StreamInfo:
    """The stream of the headset that a participant wears."""
    return msgspec.structs.replace(stream("eeg"), stream_id=f"head-{who}-eeg", device=f"head-{who}")


def order(participant: str = "p2", **fields: object) -> EraseOrder:
    usual: dict[str, object] = {
        "participant": participant, "recordings": (), "nodes": (NODE, AGGREGATOR), "log_ids": (),
        "reason": "consent withdrawn", "issued_utc_ns": NOW_NS, "expires_utc_ns": NOW_NS + DAY_NS,
        "counter": 1,
    }  # fmt: skip
    return EraseOrder(**(usual | fields))  # type: ignore[arg-type]


def pairs(folder: Path) -> tuple[Recipient, ...]:
    """box, aggregator and recovery, each in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(pair(folder / role, role) for role in ROLES)


@dataclass
class Session:
    """A box's root with one closed recording; `keys` holds what only memory had."""

    root: Path
    private: Path  # folders of private keys
    recipients: tuple[Recipient, ...]
    disk: Disk
    log_id: bytes
    keys: dict[str, DataKey]

    @property
    def recordings(self) -> Path:
        return self.root / "recordings"

    @property
    def folder(self) -> Path:
        return self.recordings / RECORDING

    def sealing(self, who: str, seed: int = 1) -> Sealing:
        return Sealing(
            self.recipients, device=f"head-{who}", recordings=self.recordings,
            log_id=self.log_id, disk=self.disk, random=seeded(100 * seed + hash_of(who)),
        )  # fmt: skip

    def secrets(self, who: str) -> dict[str, list[bytes]]:
        """What a search must find before, and not after: a participant's key and its wrapped forms."""
        found = read_keys(self.folder, self.disk)
        assert found is not None
        wrapped = [
            each.sealed
            for entry in found.keys
            if entry.participant == who
            for each in entry.wrapped
        ]
        key = self.keys[who].secret
        return {
            "wrapped": [form for sealed in wrapped for form in (sealed, b64encode(sealed))],
            "raw": [key, key.hex().encode(), b64encode(key)],
        }


def hash_of(who: str) -> int:
    return sum(who.encode())


def session(root: Path, private: Path, recipients: tuple[Recipient, ...], disk: Disk) -> Session:
    """Two segments of two chunks for each of four, and a key for markers."""
    log = RecordingLog(root / "recordings", disk=disk, random=seeded(1))
    made = Session(root, private, recipients, disk, log.log_id, {})
    write_recording_file(made.recordings, RecordingFile(RECORDING, None, NODE), disk)
    for who in PEOPLE:
        made.keys[who] = made.sealing(who).key_for(RECORDING, who)
        for ordinal in (1, 2):
            write_segment(made, who, ordinal, log.stream_number(info_of(who).stream_id))
    made.keys[""] = Sealing(
        recipients, device="markers", recordings=made.recordings, log_id=log.log_id, disk=disk,
        random=seeded(9),
    ).key_for(RECORDING, "")  # fmt: skip
    close_recording(made.folder, disk)
    return made


def write_segment(made: Session, who: str, ordinal: int, number: int) -> None:
    key, info = made.keys.get(who), info_of(who)
    identity = msgspec.structs.replace(
        IDENTITY, node=NODE, log_id=made.log_id, participant=who, recording=RECORDING,
        key_id="" if key is None else key.key_id.hex(),
    )  # fmt: skip
    writer = SegmentWriter.create(
        made.folder / info.stream_id, ordinal, info=info, number=number, identity=identity,
        size=100_000, disk=made.disk, random=seeded(10 * ordinal + hash_of(who)), key=key,
    )  # fmt: skip
    for seq in (160 * (ordinal - 1), 160 * (ordinal - 1) + 80):
        chunk = make_chunk(
            packed(info, seq, 80), info=info, number=number, identity=identity, incarnation=1,
            seq=seq, t_first_ns=t_of(info, seq), flags=NO_FLAGS, gap=None, encode=encode,
        )  # fmt: skip
        writer.append(chunk)
    writer.close()


def deliver(made: Session, cloud: Path) -> None:
    """As the uplink and the ingest do, without the wire."""
    store = ChunkStore(cloud, decode=registry.decode)
    numbers = RecordingLog(made.recordings, disk=made.disk, random=seeded(1)).streams()
    store.register(
        NODE, made.log_id, [StreamInventory(name, n, ()) for name, n in sorted(numbers.items())]
    )
    found = read_keys(made.folder, made.disk)
    assert found is not None
    for entry in found.keys:
        assert store.keys.add(made.log_id, entry) == ""
    for name in sorted(numbers):
        batch = [
            Incoming(NODE, name, bytes(whole.data))
            for path in segment_files(made.folder / name, made.disk)
            for whole in iter_chunks(path)
        ]
        placed = store.put(batch)
        assert {each.outcome for each in placed} == {"stored"}, placed
    store.close()


def opened_by(made: Session, who: str, find: Find) -> list[str]:
    """Whose private key opens a participant's data key."""
    openers = []
    for role in ROLES:
        ring = Keyring(FileKeyStore(made.private / role), find)
        try:
            key = ring.key(made.log_id, made.keys[who].key_id)
        except SecurityError:
            continue
        assert key == made.keys[who]
        openers.append(role)
    return openers


def hits(places: Iterable[Path], wanted: list[bytes]) -> dict[str, int]:
    """Files below these (or themselves: an image of a disk) in which one of the wanted stands, and how often."""
    found: dict[str, int] = {}
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                n = sum(data.count(each) for each in wanted)
                if n:
                    found[str(path)] = n
    return found


def erase(made: Session, disk: Disk = DISK, said: EraseOrder | None = None) -> BoxErasure:
    erasure = BoxErasure(
        made.recordings, said or order(), order_id=ORDER_ID, utc_ns=NOW_NS, disk=disk,
        written=lambda folder: [each.path for each in open_below(folder) if each.is_written],
    )  # fmt: skip
    erasure.run()
    return erasure


def found_by(made: Session, who: str) -> list[str]:
    return opened_by(made, who, in_folders([made.folder], UnsyncedDisk()))


def noted(made: Session, name: str, who: str = "p2") -> Path:
    path = made.root.parent / "exported" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"plain rows of " + who.encode())
    found = path.stat()
    note = ExportNote(
        str(path), "csv", info_of(who).stream_id, (who,), NOW_NS, found.st_size, found.st_mtime_ns
    )
    add_note(made.folder, note, DISK)
    return path


Make = Callable[[Path], Session]  # a session of four at a box below a folder
