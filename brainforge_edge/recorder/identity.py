"""Who recorded: what segment descriptors and journal headers say beside the streams. Runs in: any process."""

from typing import Any

import msgspec

from brainforge_edge.core.clock import Anchor


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The same for all streams of a device in one recording."""

    recording: str
    node: str
    log_id: bytes
    anchors: tuple[Anchor, ...] = ()  # of the boot in which the rows were acquired
    participant: str = ""  # pseudonym
    key_id: str = ""  # of the data key; empty while chunks are not sealed

    @property
    def boot_id(self) -> str:
        return self.anchors[-1].boot_id if self.anchors else ""

    def utc_of(self, t_ns: int) -> tuple[int | None, int]:
        """UTC and uncertainty (ns) of a box time, by the latest anchor that knows UTC; (None, 0) without one."""
        for anchor in reversed(self.anchors):
            utc = anchor.utc_of(t_ns)
            if utc is not None:
                return utc, anchor.uncertainty_ns
        return None, 0

    def as_map(self) -> dict[str, Any]:
        """The CBOR map in descriptors and journal headers (docs/formats.md)."""
        return {
            "recording": self.recording,
            "node": self.node,
            "log_id": self.log_id,
            "boot_id": self.boot_id,
            "anchors": [
                [anchor.boot_id, anchor.monotonic_ns, anchor.utc_ns, anchor.uncertainty_ns]
                for anchor in self.anchors
            ],
            "participant": self.participant,
            "key_id": self.key_id,
        }


def identity_from_map(fields: dict[str, Any]) -> Identity:
    """Inverse of `Identity.as_map`; KeyError, TypeError or ValueError for anything else."""
    return Identity(
        recording=str(fields["recording"]),
        node=str(fields["node"]),
        log_id=bytes(fields["log_id"]),
        anchors=tuple(
            Anchor(str(boot), int(monotonic), None if utc is None else int(utc), int(uncertainty))
            for boot, monotonic, utc, uncertainty in fields["anchors"]
        ),
        participant=str(fields["participant"]),
        key_id=str(fields["key_id"]),
    )
