"""Boxes and aggregators that believe too early, store twice or do not send again: each must be caught.

name → (the argument by which the process is known, what is patched into it)
"""

from tests.faults.uplinkprocess import UPLINK

INGEST = "brainforge_edge.cloud.ingest.main"

RECEIPT_FIRST = """
    from brainforge_edge.cloud.store.chunks import ChunkStore
    register = ChunkStore.register
    def commit(self):
        if self._catalogue._connection.in_transaction:
            self._packs.sync()
            self._catalogue.execute("COMMIT")
    def early(self, batch):
        commit(self)  # what was receipted the last time
        self._catalogue.execute("BEGIN IMMEDIATE")
        return [self._put(incoming) for incoming in batch]
    def registered(self, *arguments):
        commit(self)
        return register(self, *arguments)
    ChunkStore.put, ChunkStore.register = early, registered
"""
STORED_TWICE = """
    from brainforge_edge.cloud.store import chunks
    from brainforge_edge.core.ranges import Intervals
    key = "crc INTEGER NOT NULL,\\n        PRIMARY KEY (stream, incarnation, first)\\n    ) WITHOUT ROWID"
    assert any(key in script for script in chunks.MIGRATIONS)
    chunks.MIGRATIONS = tuple(s.replace(key, "crc INTEGER NOT NULL)") for s in chunks.MIGRATIONS)
    Intervals.missing = lambda self, first, end: [(first, end)]
"""
BELIEVES_PUBLISH = """
    from brainforge_edge.core.wire import Range
    from brainforge_edge.uplink.sender import Sender
    written = Sender.written
    def believing(self, mid, now):
        item = self._by_mid.get(mid)
        written(self, mid, now)
        if item is None or item.key not in self.window.items:
            return
        head = item.found.head
        if head.n_samples:
            samples = (Range(head.incarnation, head.seq, head.end),)
            self._index.learn(head.product, item.track.ref.stream_id, samples)
        else:
            self._index.others.add(item.key)
        self._settle(item)
    Sender.written = believing
"""
NEVER_AGAIN = """
    from brainforge_edge.uplink.lanes import Window
    Window.overdue = lambda self, now: []
"""
KEEPS_CHUNKS = """
    from brainforge_edge.uplink.index import LogIndex
    announce = LogIndex.announce
    kept = []
    def hoarding(self, message):
        new = announce(self, message)
        kept.extend(self.read(track, self.look_at(track, offset)) for track, offset in new)
        return new
    LogIndex.announce = hoarding
"""
MUTANTS = {
    "chunks-kept-in-memory": (UPLINK, KEEPS_CHUNKS),
    "receipt-before-commit": (INGEST, RECEIPT_FIRST),
    "no-deduplication": (INGEST, STORED_TWICE),
    "publish-believed": (UPLINK, BELIEVES_PUBLISH),
    "resend-never": (UPLINK, NEVER_AGAIN),
}
