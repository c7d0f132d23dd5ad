"""What comes on `ack/…`, and whether it is believed. Runs in: uplink process, pump thread. No I/O.

A box that knows its aggregator's key believes what is signed with it for the very topic, and nothing
else. What it does not believe is counted, and told once a connection: who can publish here can flood.
"""

from collections import Counter

import msgspec

from brainforge_edge.core import log, topics, wire
from brainforge_edge.core.events import EventType
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.security.sign import Signed, Verifier, acknowledging
from brainforge_edge.uplink.inbox import Emit

Word = wire.Receipt | wire.Resume | wire.Ask | wire.Answer

UNPROVEN = (
    "what answers is not signed by the aggregator of this site and is not believed: "
    "recordings are kept here until it is"
)
OUTDATED = (
    "the aggregator's store is older than the one that was known here (was a backup put back without "
    "`cloud restored`?): recordings are kept here"
)
_signed = msgspec.msgpack.Decoder(Signed)
_receipt = msgspec.msgpack.Decoder(wire.Receipt)
_log_word: msgspec.msgpack.Decoder[wire.Resume | wire.Ask | wire.Answer] = msgspec.msgpack.Decoder(
    wire.Resume | wire.Ask | wire.Answer
)


class Acks:
    """Words of the aggregator to this box about this log."""

    def __init__(self, node: str, log_id: bytes, verifier: Verifier | None, emit: Emit) -> None:
        self.counts: Counter[str] = Counter()  # "foreign", "forged", "outdated"
        self.trouble = ""  # why nothing is delivered although somebody answers
        self._node = node
        self._log_id = log_id
        self._verifier = verifier
        self._emit = emit
        self._has_told = False
        self._log = log.get(part="acks")

    def restart(self) -> None:
        """A new connection."""
        self.trouble = ""
        self._has_told = False

    def read(self, topic: str, payload: bytes) -> Word | None:
        """A word that is for us and to be believed, else None."""
        parsed = topics.parse(topic)
        if parsed is None or parsed[:2] != (self._node, "ack"):
            self.counts["foreign"] += 1
            return None
        body = self._believed(topic, payload)
        if body is None:
            return None
        try:
            word: Word = (_log_word if parsed[2] == topics.LOG else _receipt).decode(body)
        except GARBLED:
            self.counts["foreign"] += 1
            return None
        if isinstance(word, wire.Receipt) and word.stream_id != parsed[2]:
            return None
        return word if isinstance(word, wire.Ask) or word.log_id == self._log_id else None

    def is_outdated(self, generation: int, known: int) -> bool:
        """Signed, yet of an older store than the known one: played again, or a backup that says nothing."""
        if self._verifier is None or generation >= known:
            return False
        self.counts["outdated"] += 1
        return True

    def _believed(self, topic: str, payload: bytes) -> bytes | None:
        """The word's bytes."""
        try:
            signed = _signed.decode(payload)
        except GARBLED:
            signed = None
        if self._verifier is None:
            return payload if signed is None else signed.body
        if signed is None:
            self._forged(topic, "unsigned")
        elif signed.signer != self._verifier.id:
            self._forged(topic, "another signer")
        elif not self._verifier.is_genuine(acknowledging(topic), signed):
            self._forged(topic, "signature")
        else:
            return signed.body
        return None

    def _forged(self, topic: str, reason: str) -> None:
        self.counts["forged"] += 1
        self.trouble = UNPROVEN
        if not self._has_told:
            self._has_told = True
            self._log.error("receipt not believed", topic=topic, reason=reason)
            self._emit(EventType.RECEIPT_FORGED, "", {"topic": topic, "reason": reason})
