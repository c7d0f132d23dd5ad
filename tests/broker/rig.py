"""A box's log, a broker, an aggregator: real processes and sockets on loopback."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.cloud.ingest.main import status
from brainforge_edge.cloud.ingest.subscriber import Inbox, Message, Subscriber
from brainforge_edge.cloud.ingest.writer import Writer
from brainforge_edge.cloud.store.chunks import ChunkStore
from brainforge_edge.cloud.store.reader import StoreReader
from brainforge_edge.codec import registry
from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import SealConfig, UplinkConfig
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.sealing import Sealing
from brainforge_edge.recorder.segment import SegmentWriter, next_ordinal
from brainforge_edge.security.keystore import KeyStore
from brainforge_edge.security.sign import Signer
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.security.wrap import Recipient
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.uplink.pump import Pump
from brainforge_edge.uplink.worker import build_pump

WAIT_S = 40.0
CHUNK_ROWS = 50


def wait_for(what: Callable[[], object], *, timeout_s: float = WAIT_S, why: object = "") -> None:
    """Until `what` is true; `why` (or its value when callable) is shown when it never is."""
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(why() if callable(why) else why)
        time.sleep(0.02)


def stream(stream_id: str, n_channels: int = 8) -> StreamInfo:
    channels = tuple(ChannelInfo(f"ch{i}") for i in range(n_channels))
    return StreamInfo(stream_id, stream_id.split("-", maxsplit=1)[0], 1000.0, Dtype.I32, channels)


def rows_of(info: StreamInfo, first: int, n: int) -> NDArray[np.int32]:
    """Sample index in channel 0, something else beside it."""
    index = np.arange(first, first + n, dtype=np.int64)[:, None]
    return (index * (1 + np.arange(info.n_channels))).astype(np.int32)


class BoxLog:
    """Writes segments as the archive thread does."""

    def __init__(
        self, root: Path, *, node: str = "bed-1", seed: int = 7, for_: tuple[Recipient, ...] = ()
    ) -> None:
        """Sealed if it is `for_` anybody."""
        self.root = root
        self.node = node
        self._disk = SystemDisk()
        self._random = np.random.default_rng(seed).bytes
        self.recordings = root / "recordings"
        self._disk.make_folder(self.recordings)
        self._log = RecordingLog(self.recordings, disk=self._disk, random=self._random)
        self.log_id = self._log.log_id
        self.sealing: Sealing | None = None
        if for_:
            self.sealing = Sealing(
                for_, device="opm", recordings=self.recordings, log_id=self.log_id,
                disk=self._disk, random=self._random,
            )  # fmt: skip
        self._writers: dict[tuple[str, str], SegmentWriter] = {}
        self.held: dict[str, list[tuple[int, int, int]]] = {}  # stream → incarnation, first, end

    def append(
        self,
        info: StreamInfo,
        first: int,
        n: int = CHUNK_ROWS,
        *,
        incarnation: int = 0,
        recording: str = "r1",
        rows: NDArray[Any] | None = None,
        segment_bytes: int = 1024 * 1024,
    ) -> ipc.Archived:
        """One chunk on the disk, and its announcement."""
        writer = self._writers.get((recording, info.stream_id))
        if writer is None or writer.is_full:
            if writer is not None:
                writer.close()
            folder = self.recordings / recording / info.stream_id
            self._disk.make_folder(folder)
            key = None if self.sealing is None else self.sealing.key_for(recording, "")
            writer = SegmentWriter.create(
                folder,
                next_ordinal(folder, self._disk),
                info=info,
                number=self._log.stream_number(info.stream_id),
                identity=Identity(
                    recording=recording, node=self.node, log_id=self.log_id, anchors=()
                ),
                size=segment_bytes,
                disk=self._disk,
                random=self._random,
                key=key,
            )
            self._writers[recording, info.stream_id] = writer
        data = rows_of(info, first, n) if rows is None else rows
        writer.append(
            Chunk(
                codec=Codec.PACKED,
                dtype=info.dtype,
                n_channels=info.n_channels,
                n_samples=n,
                log_id=self.log_id,
                incarnation=incarnation,
                stream_number=self._log.stream_number(info.stream_id),
                seq=first,
                t_first_ns=first * 1_000_000,
                sfreq=info.sfreq,
                body=registry.encode(Codec.PACKED, data, info.dtype),
            )
        )
        end = writer.sync()
        self.held.setdefault(info.stream_id, []).append((incarnation, first, first + n))
        return ipc.Archived(
            recording=recording, stream_id=info.stream_id, segment=writer.path.name, end=end
        )

    def fill(self, info: StreamInfo, chunks: int, **options: Any) -> list[ipc.Archived]:
        return [self.append(info, i * CHUNK_ROWS, **options) for i in range(chunks)]

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


class Box:
    """The uplink's pump over a log, in a thread of this process."""

    def __init__(
        self,
        root: Path,
        port: int,
        *,
        node: str = "bed-1",
        seal: SealConfig = SealConfig(enabled=False),  # noqa: B008 (frozen)
        **config: Any,
    ) -> None:
        self.events: list[tuple[EventType, str, dict[str, Any]]] = []
        self.pump: Pump
        self.pump, self._cursors = build_pump(
            root,
            node=node,
            config=UplinkConfig(port=port, **{"keepalive_s": 2, **config}),
            clock=SystemClock(),
            emit=lambda *event: self.events.append(event),
            seal=seal,
        )
        self._thread = threading.Thread(target=self.pump.run, name="pump")

    def start(self) -> "Box":
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self.pump.stop()
            self._thread.join(20)
            assert not self._thread.is_alive()
        self._cursors.close()

    @property
    def is_drained(self) -> bool:
        stats = self.pump.stats
        return stats.get("state") == "open" and stats["lag_chunks"] == 0 == stats["in_flight"]

    def wait_receipted(self, n: int) -> None:
        wait_for(lambda: self.pump.sender.counts["receipted"] >= n, why=lambda: self.pump.stats)

    def wait_drained(self, **options: Any) -> None:
        wait_for(lambda: self.is_drained, why=lambda: self.pump.stats, **options)


class Ingest:
    """The aggregator's ingest as its own process."""

    def __init__(
        self,
        root: Path,
        port: int,
        *,
        protocol: int = 5,
        environment: Mapping[str, str] = os.environ,
        tls: TlsFiles | None = None,
        signer: Path | None = None,
    ) -> None:
        self.root = root
        self.port = port
        self.tls = tls
        self.signer = signer
        self.protocol = protocol
        self._environment = {**environment, "OPENBLAS_NUM_THREADS": "1"}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, waits: bool = True) -> "Ingest":
        """`waits` until it says that it is connected."""
        root = self.root
        root.mkdir(parents=True, exist_ok=True)
        (root / "status.json").unlink(missing_ok=True)
        with (root / "ingest.log").open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "brainforge_edge.cloud.ingest.main", "--root", str(root),
                 "--broker", f"127.0.0.1:{self.port}", "--protocol", str(self.protocol),
                 "--keepalive", "2", *self._trust()],
                stdout=out, stderr=out, env=self._environment,
            )  # fmt: skip
        if waits:
            wait_for(lambda: self.status.get("connected"), why=(root / "ingest.log").read_text)
        return self

    def _trust(self) -> list[str]:
        signing = [] if self.signer is None else ["--signer", str(self.signer)]
        if self.tls is None:
            return signing
        return [
            *signing, "--tls-ca", str(self.tls.ca), "--tls-cert", str(self.tls.certificate),
            "--tls-key", str(self.tls.key),
        ]  # fmt: skip

    @property
    def status(self) -> dict[str, Any]:
        try:
            return status(self.root)
        except json.JSONDecodeError:
            return {}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        return process.wait(20)


class LocalIngest:
    """The same in a thread of this process, with faults between broker, writer and box."""

    def __init__(
        self,
        root: Path,
        port: int,
        *,
        keep_receipt: Callable[[str], bool] = lambda _topic: True,
        scramble: Callable[[list[Message]], list[Message]] = lambda messages: messages,
        probe_s: float = 1.0,
        signer: Signer | None = None,
    ) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._store = ChunkStore(root, decode=registry.decode)
        self._inbox = _Scrambled(scramble)
        self.link = Subscriber(
            self._inbox, host="127.0.0.1", port=port, client_id=f"i-{os.getpid()}-{id(self)}",
            keepalive_s=2,
        )  # fmt: skip

        def post(topic: str, payload: bytes) -> bool:
            return keep_receipt(topic) and self.link.publish(topic, payload)

        self.writer = Writer(self._store, self._inbox, post, probe_s=probe_s, signer=signer)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")

    def start(self) -> "LocalIngest":
        self.link.start()
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.writer.step(0.05)

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
            self.link.close()
        self._store.close()

    def count(self, what: str) -> int:
        return sum(getattr(count, what) for count in list(self.writer.counts.values()))


class _Scrambled(Inbox):
    def __init__(self, scramble: Callable[[list[Message]], list[Message]]) -> None:
        super().__init__()
        self._scramble = scramble

    def take(self, timeout_s: float, *, most_bytes: int) -> list[Message]:
        return self._scramble(super().take(timeout_s, most_bytes=most_bytes))


def assert_stored_once(root: Path, log: BoxLog, *, private: KeyStore | None = None) -> None:
    """Every sample of the log is in the store, once, with its value."""
    reader = StoreReader(root, decode=registry.decode, pack=registry.pack_rows, private=private)
    try:
        known = {s.stream_id: s for s in reader.streams() if s.log_id == log.log_id}
        for stream_id, ranges in log.held.items():
            info = known[stream_id].info
            assert info is not None, f"{stream_id} has no descriptor"
            expected: dict[tuple[int, int], int] = {}
            for incarnation, first, end in ranges:
                for seq in range(first, end):
                    expected[incarnation, seq] = 0
            for part, rows in reader.iter_rows(log.log_id, stream_id):
                assert np.array_equal(rows, rows_of(info, part.first, part.end - part.first))
                for seq in range(part.first, part.end):
                    expected[part.incarnation, seq] += 1
            lost = [key for key, count in expected.items() if count == 0]
            twice = [key for key, count in expected.items() if count > 1]
            assert not lost, f"{stream_id}: {len(lost)} lost, first {lost[:1]}"
            assert not twice, f"{stream_id}: {len(twice)} stored twice, first {twice[:1]}"
    finally:
        reader.close()
