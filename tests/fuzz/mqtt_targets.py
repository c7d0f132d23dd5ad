"""What comes over MQTT: receipts at the box, hellos and chunks at the aggregator, with their real stores."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import structlog

from brainforge_edge.cloud.ingest.subscriber import CONNECTED, Inbox, Message
from brainforge_edge.cloud.ingest.writer import Writer
from brainforge_edge.cloud.store.chunks import ChunkStore
from brainforge_edge.codec import registry
from brainforge_edge.core import topics, wire
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import UplinkConfig
from brainforge_edge.security.sign import Signed, make_signer, read_signer
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.uplink.cursor import CursorStore
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.keys import KeyDesk
from brainforge_edge.uplink.pump import Pump
from tests.fuzz.disk_targets import INFO, descriptor_chunk, mended_chunks, rows_chunk, segment
from tests.fuzz.target import Bytes, Run, Target

NODE = "node-1"
LOG_ID = bytes(range(16))
_MOST = 1000  # inputs that one store takes: a log that grows for ever tells nothing more
_RANGES = (wire.Range(1, 0, 80), wire.Range(2, 5, 2**40))
_INVENTORY = wire.StreamInventory(INFO.stream_id, 1, _RANGES)
_HELLO = wire.Hello(NODE, LOG_ID, "life", (_INVENTORY,), token="abc")


def _nothing(*_: object, **__: object) -> None:
    pass


@contextmanager
def _renewed(make: Callable[[Path, ExitStack], Run]) -> Iterator[Run]:
    """Inputs for what `make` opens in a folder, and opens anew after some of them."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)  # each input is worth a line of the log
    with ExitStack() as stack:
        count = 0
        current: Run = _nothing

        def run(data: bytes) -> None:
            nonlocal count, current
            if count % _MOST == 0:
                stack.close()
                folder = stack.enter_context(TemporaryDirectory(prefix="bf-fuzz-"))
                current = make(Path(folder), stack)
            count += 1
            current(data)

        yield run


def _box(folder: Path, stack: ExitStack) -> Run:
    cursors = stack.enter_context(closing(CursorStore(folder / "uplink.sqlite")))
    pump = Pump(
        node=NODE,
        log_id=LOG_ID,
        index=LogIndex(folder / "recordings", cursors, SystemDisk()),
        keys=KeyDesk(folder / "recordings", SystemDisk(), seals=False, aggregator=""),
        cursors=cursors,
        config=UplinkConfig(),
        clock=SystemClock(),
        random=lambda n: b"\1" * n,
        emit=_nothing,
    )

    def run(data: bytes) -> None:
        source = Bytes(data)
        where = (topics.LOG, INFO.stream_id, "other", "")[source.number() & 3]
        pump._token = "abc"
        pump._hear(topics.ack(NODE, where), source.rest())
        assert pump.sender.window.room(live=True) in {True, False}

    return run


def receipt_seeds() -> list[bytes]:
    refused = (wire.Refusal(LOG_ID, 3, "crc"),)
    receipt = wire.Receipt(LOG_ID, 0, INFO.stream_id, _RANGES, refused, others=((LOG_ID, 0),))
    resume = wire.Resume(LOG_ID, "abc", ((0, _INVENTORY),), others=((LOG_ID, 1),))
    clone = wire.Resume(LOG_ID, "abc", (), refused="clone")
    words: list[tuple[int, object]] = [
        (1, receipt), (0, resume), (0, clone), (0, wire.Ask("unknown_log")), (2, receipt),
        (0, wire.Answer(LOG_ID, "t", LOG_ID, reason="missing")),
        (1, Signed(msgspec.msgpack.encode(receipt), "00" * 8, bytes(64))),
        (0, Signed(msgspec.msgpack.encode(resume), "00" * 8, bytes(64))),
    ]  # fmt: skip
    return [bytes([where]) + msgspec.msgpack.encode(word) for where, word in words]


def _aggregator(folder: Path, stack: ExitStack) -> Run:
    store = stack.enter_context(closing(ChunkStore(folder, decode=registry.decode)))
    inbox = Inbox()
    signer = read_signer(make_signer()[0], "fuzz")
    writer = Writer(store, inbox, lambda topic, payload: bool(topic and payload), signer=signer)
    inbox.offer(Message(topics.hello(NODE), msgspec.msgpack.encode(_HELLO)))
    inbox.offer(CONNECTED)
    writer.step(0.0)

    def run(data: bytes) -> None:
        source = Bytes(data)
        mode = source.number()
        body = source.rest()
        if mode & 3:
            body = mended_chunks(body) if mode & 4 else body
            topic = topics.chunk(NODE, INFO.stream_id if mode & 1 else "dev-acc")
        else:
            topic = (
                topics.claim(NODE)
                if mode & 16
                else topics.keys(NODE)
                if mode & 8
                else topics.hello(NODE)
                if mode & 4
                else "bf/v1/" + body[:24].decode("latin-1")
            )
        if mode & 128:
            store._load()  # as after a restart
        inbox.offer(Message(topic, body))
        writer.step(0.0)
        msgspec.json.encode(writer.status())
        assert not writer.failing

    return run


def aggregator_seeds() -> list[bytes]:
    hello = b"\4" + msgspec.msgpack.encode(_HELLO)
    bodies = (segment(descriptor_chunk()), segment(rows_chunk(0, 8)), segment(rows_chunk(4, 8)))
    chunks = [bytes([mode]) + body for mode in (1, 5) for body in bodies]
    wrapped = (("0123456789abcdef", "aggregator", bytes(113)),)
    keys = wire.Keys(LOG_ID, (wire.SealedKey("00" * 8, "p1", "dev", wrapped),))
    closed = wire.ClosedSegment(INFO.stream_id, 0, LOG_ID, 3, 5000, bytes(32), _RANGES, bytes(32))
    claim = wire.Claim(LOG_ID, "t", (closed, closed))
    return [
        hello,
        *chunks,
        b"\0node-1/hello",
        b"\10" + msgspec.msgpack.encode(keys),
        b"\20" + msgspec.msgpack.encode(claim),
    ]


TARGETS = (
    Target("receipts", receipt_seeds, lambda: _renewed(_box)),
    Target("aggregator", aggregator_seeds, lambda: _renewed(_aggregator)),
)
