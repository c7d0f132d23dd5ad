"""What the uplink shows of itself in `status`. Runs in: uplink process, pump thread. No I/O."""

from typing import Any

from brainforge_edge.uplink.acks import Acks
from brainforge_edge.uplink.claims import Claims
from brainforge_edge.uplink.client import Connection
from brainforge_edge.uplink.inbox import Link
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.sender import Sender


def figures(
    link: Link,
    *,
    connection: Connection,
    index: LogIndex,
    sender: Sender,
    acks: Acks,
    claims: Claims,
    generation: int,
) -> dict[str, Any]:
    """The uplink's part of `status`."""
    chunks, size, age = index.lag()
    return {
        "state": link.value,
        "connected": connection.connected,
        "broker": connection.broker,
        "protocol": connection.protocol,
        "why": connection.trouble or ("" if link is Link.OPEN else acks.trouble),
        "lag_chunks": chunks,
        "lag_bytes": size,
        "lag_s": round(age, 1),
        "in_flight": len(sender.window.items),
        "rtt_ms": round(sender.window.rtt * 1000),
        **{key: sender.counts[key] for key in ("sent", "sent_again", "receipted", "bytes_sent")},
        "quarantined": index.quarantined,
        "held_back": dict(sender.held_back),
        "refused": {stream: dict(reasons) for stream, reasons in sender.refused.items()},
        "forged": acks.counts["forged"],
        "outdated": acks.counts["outdated"],
        "attested": claims.attested,
        "denied": dict(claims.denied),
        "store_generation": generation,
    }
