"""Configurations of mosquitto and nats-server: who may say what to whom. Runs in: any process. No I/O.

The words of docs/mqtt.md as access lists: a node writes and reads below its own name, which is its
certificate's, and only the aggregator writes receipts, desired states and jobs.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MAX_PACKET = 2 * 1024 * 1024
_NODE_WRITES = (
    "chunk/#", "keys", "hello", "claim", "live/#", "ev/#", "reported", "job/+/status",
)  # fmt: skip
_NODE_READS = ("ack/#", "desired", "job/+")
_AGGREGATOR_WRITES = ("bf/v1/+/ack/#", "bf/v1/+/desired", "bf/v1/+/job/+")
_AGGREGATOR_READS = ("bf/v1/#",)


class BrokerKind(StrEnum):
    MOSQUITTO = "mosquitto"
    NATS = "nats-server"


@dataclass(frozen=True, slots=True)
class Trust:
    """Files of a broker with TLS, and who is enrolled."""

    ca: Path
    certificate: Path
    key: Path
    revoked: Path  # mosquitto's; nats-server reads none and is told the names instead
    aggregator: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    host: str
    port: int
    max_packet: int = MAX_PACKET
    trust: Trust | None = None  # None: in the clear, for anybody who reaches it


def mosquitto(at: Listener, acl: Path, *, user: str = "") -> str:
    """`mosquitto.conf`; with TLS `acl` is the file with the `access_list`."""
    lines = [f"listener {at.port} {at.host}".rstrip()]
    if at.trust is None:
        lines += ["allow_anonymous true"]
    else:
        lines += [
            "tls_version tlsv1.3",
            f"cafile {at.trust.ca}",
            f"certfile {at.trust.certificate}",
            f"keyfile {at.trust.key}",
            f"crlfile {at.trust.revoked}",
            "require_certificate true",
            "use_identity_as_username true",
            "allow_anonymous false",
            f"acl_file {acl}",
        ]
    lines += [
        "persistence false",
        f"max_packet_size {at.max_packet}",
        "set_tcp_nodelay true",
        "max_inflight_messages 64",
        "max_queued_messages 10000",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
    ]
    if user:
        lines.append(f"user {user}")
    return "\n".join(lines) + "\n"


def access_list(aggregator: str) -> str:
    """For mosquitto; names are filled in by the broker, so that it holds for every node there will be."""
    lines = [f"user {aggregator}"]
    lines += [f"topic write {topic}" for topic in _AGGREGATOR_WRITES]
    lines += [f"topic read {topic}" for topic in _AGGREGATOR_READS]
    lines += [f"pattern write bf/v1/%u/{topic}" for topic in _NODE_WRITES]
    lines += [f"pattern read bf/v1/%u/{topic}" for topic in _NODE_READS]
    return "\n".join(lines) + "\n"


def nats(at: Listener, store: Path) -> str:
    """`nats-server.conf`. A node that is enrolled later is in the next one."""
    head = f"""\
server_name: brainforge
listen: "127.0.0.1:-1"
max_payload: {at.max_packet}
max_pending: {64 * 1024 * 1024}
jetstream {{ store_dir: {_quoted(store)} }}
"""
    host = f"host: {_quoted(at.host or '0.0.0.0')}"  # noqa: S104 (as mosquitto without an address)
    if at.trust is None:
        return head + f"mqtt {{ {host}, port: {at.port}, max_ack_pending: 1024 }}\n"
    tls = (
        f"tls {{ cert_file: {_quoted(at.trust.certificate)}, key_file: {_quoted(at.trust.key)}, "
        f'ca_file: {_quoted(at.trust.ca)}, verify_and_map: true, min_version: "1.3" }}'
    )
    users = [_nats_user(at.trust.aggregator, _AGGREGATOR_WRITES, _AGGREGATOR_READS)]
    for node in at.trust.nodes:
        writes = tuple(f"bf/v1/{node}/{topic}" for topic in _NODE_WRITES)
        reads = tuple(f"bf/v1/{node}/{topic}" for topic in _NODE_READS)
        users.append(_nats_user(node, writes, reads))
    listed = "\n".join(f"  {user}" for user in users)
    return (
        head
        + f"{tls}\nmqtt {{ {host}, port: {at.port}, max_ack_pending: 1024, {tls} }}\n"
        + f"authorization {{ users: [\n{listed}\n] }}\n"
    )


def _nats_user(name: str, writes: tuple[str, ...], reads: tuple[str, ...]) -> str:
    # Deliveries of QoS 1 come to the session under $MQTT.sub.
    may = {
        "publish": {"allow": [_subject(topic) for topic in writes]},
        "subscribe": {"allow": [*(_subject(topic) for topic in reads), "$MQTT.sub.>"]},
    }
    return f'{{ user: "CN={name}", allowed_connection_types: ["MQTT"], permissions: {json.dumps(may)} }}'


def _subject(topic: str) -> str:
    """An MQTT filter in nats-server's words; `#` also stands for nothing in MQTT, which no topic of ours uses."""
    return topic.replace("/", ".").replace("+", "*").replace("#", ">")


def _quoted(value: object) -> str:
    return json.dumps(str(value))
