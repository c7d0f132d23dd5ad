"""Orders and who must sign them: what is to be done, where, until when. Runs in: agent process; tools. No I/O.

An order is a statement (JSON, signed as the bytes that it is) with signatures; its kind says whose are
needed. Whoever carries it out asks, in this order: who signed, for whom it is, whether it is still
good. That it is not carried out twice is `fleet.orders`' to see to.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.ids import is_name
from brainforge_edge.security.sign import Signed, Signer, Verifier

DOMAIN = "order"
ERASE = "erase"
DESIRED = "desired"  # security/desired.py
ROLES = ("fleet", "clinician")  # one of each has to be known
# Whose signatures a kind needs. What nobody can carry out yet stands here so that one alone never can.
NEEDED: Mapping[str, tuple[str, ...]] = {
    DESIRED: ("fleet",),
    ERASE: ROLES,
    "key_export": ROLES,
    "stimulate": ROLES,
}
AGGREGATOR = "_aggregator"  # among `nodes`; no box can be called so
EARLY_NS = 300_000_000_000  # by which the clock that an order was issued by may be ahead of ours
MOST_REASON = 500  # characters
MOST_COUNTER = 2**62
MOST_BYTES = 64 * 1024  # of a whole order: it is one message
MOST_NODES = 256
_LOG_ID = re.compile(r"[0-9a-f]{32}")

Role = Literal["fleet", "clinician"]
UtcNs = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Counter = Annotated[int, Meta(ge=0, le=MOST_COUNTER)]


class Placed(Protocol):
    """What every kind says of place and time."""

    @property
    def nodes(self) -> tuple[str, ...]: ...
    @property
    def log_ids(self) -> tuple[str, ...]: ...
    @property
    def issued_utc_ns(self) -> int: ...
    @property
    def expires_utc_ns(self) -> int: ...


class EraseOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The statement."""

    kind: Literal["erase"] = "erase"
    participant: str  # pseudonym; "" for what names nobody
    recordings: tuple[str, ...]  # empty: all
    nodes: tuple[str, ...]  # boxes, and AGGREGATOR
    log_ids: tuple[str, ...]  # hex; empty: all of the nodes'
    reason: str
    issued_utc_ns: UtcNs
    expires_utc_ns: UtcNs
    counter: Counter  # higher than that of every order before it


class Signature(msgspec.Struct, frozen=True):
    signer: str
    signature: bytes


class OrderFile(msgspec.Struct, frozen=True):
    """What is carried from one to the next."""

    body: str  # the statement as JSON: who signs can read it
    signatures: tuple[Signature, ...] = ()

    @property
    def id(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()[:16]


class _Kind(msgspec.Struct, frozen=True):
    kind: str


_file_decoder = msgspec.json.Decoder(OrderFile)
_kind_decoder = msgspec.json.Decoder(_Kind)
_order_decoder = msgspec.json.Decoder(EraseOrder)


def new_order(order: EraseOrder) -> OrderFile:
    """SecurityError unless it is one that may be signed."""
    return OrderFile(msgspec.json.encode(_bounded(order)).decode())


def read_order_file(data: bytes) -> OrderFile:
    """Also one that came over the network: SecurityError for what is none, or too long for one."""
    if len(data) > MOST_BYTES:
        raise unreadable(f"it has {len(data)} bytes, and {MOST_BYTES} are the most")
    try:
        return _file_decoder.decode(data)
    except GARBLED as error:
        raise unreadable(str(error)) from error


def kind_of(file: OrderFile) -> str:
    try:
        return _kind_decoder.decode(file.body).kind
    except GARBLED as error:
        raise unreadable(str(error)) from error


def statement(file: OrderFile) -> EraseOrder:
    """What it says, whoever signed it; SecurityError for what nobody may sign or carry out."""
    check_kind(kind_of(file), ERASE)
    try:
        order = _order_decoder.decode(file.body)
    except GARBLED as error:
        raise unreadable(str(error)) from error
    return _bounded(order)


def check_kind(kind: str, wanted: str) -> None:
    """SecurityError `order_unknown_kind` unless it is what can be done here."""
    if kind != wanted:
        raise refused(
            "order_unknown_kind",
            f"it is of the kind {kind[:64]!r}, and {wanted!r} is what can be carried out here",
            "Make one of that kind, or update the program",
        )


def _bounded(order: EraseOrder) -> EraseOrder:
    """Every order passes here: where it is made, signed and carried out."""
    if not order.participant and not order.recordings:
        raise not_good(
            "order_too_wide",
            "it names neither a participant nor recordings",
            "Give --participant, or --recording for what was recorded of nobody in particular",
        )
    if len(order.reason) > MOST_REASON:
        raise not_good(
            "order_reason_long",
            f"its reason has {len(order.reason)} characters, and {MOST_REASON} are the most",
            "Say it in fewer, so that whoever signs can read it",
        )
    check_names(order)
    return order


def check_names(order: Placed) -> None:
    """SecurityError for more nodes than one message can name, or what is no node's name or log id."""
    if len(order.nodes) > MOST_NODES:
        raise not_good(
            "order_too_many_nodes",
            f"it names {len(order.nodes)} nodes, and {MOST_NODES} are the most",
            "Make several",
        )
    for node in order.nodes:  # the aggregator makes paths and topics of them, whoever signed
        if node != AGGREGATOR and not is_name(node):
            raise not_good(
                "order_node",
                f"{node[:64]!r} is no name of a node",
                "Give each box by its node.id",
            )
    for log_id in order.log_ids:
        if not _LOG_ID.fullmatch(log_id):
            raise not_good(
                "order_log_id",
                f"{log_id!r} is no log id: those are 16 bytes in hex",
                "Leave --log-id out for every log, or give it as the box's `log_id` has it",
            )


def signed_by(file: OrderFile, signer: Signer) -> OrderFile:
    """The order with one signature more."""
    if any(each.signer == signer.id for each in file.signatures):
        raise SecurityError(
            "order_signed_twice",
            "the order was not signed",
            why=f"signer {signer.id} has signed it already, and each counts once",
            remedy="Have it signed by another one, if it needs one",
        )
    signed = signer.sign(DOMAIN, file.body.encode())
    added = Signature(signed.signer, signed.signature)
    return msgspec.structs.replace(file, signatures=(*file.signatures, added))


class Signers:
    """Whose signatures count."""

    def __init__(self, known: Sequence[tuple[Role, Verifier]]) -> None:
        """SecurityError `order_signers` unless there is one of each role, none in both."""
        self._known = {verifier.id: (role, verifier) for role, verifier in known}
        roles = {role for role, _ in known}
        missing = [role for role in ROLES if role not in roles]
        if missing:
            raise _signers(f"no key of a {' and no key of a '.join(missing)} is named")
        if len(self._known) < len(known):
            raise _signers("one key is named twice, and one alone could sign for both")

    def checked(self, file: OrderFile) -> EraseOrder:
        """The statement, if a fleet and a clinician key signed it; SecurityError says what is missing."""
        self.check_signed(file, ERASE)
        return statement(file)

    def check_signed(self, file: OrderFile, wanted: str) -> None:
        """SecurityError unless it is of the kind that is `wanted`, signed by all whom that kind needs."""
        roles = self._roles(file)
        kind = kind_of(file)
        if kind not in NEEDED:
            check_kind(kind, wanted)
        missing = [role for role in NEEDED[kind] if role not in roles]
        if missing:
            needed = " and of a ".join(NEEDED[kind])
            raise refused(
                "order_signer_missing",
                f"it needs the signature of a {needed} key, and has none of a {' or a '.join(missing)} key",
                "Have it signed: brainforge-edge erase sign, or cloud desired sign",
            )
        check_kind(kind, wanted)

    def _roles(self, file: OrderFile) -> set[str]:
        """Of those who signed; SecurityError for a signature that is not genuine, or a stranger's."""
        ids = [each.signer for each in file.signatures]
        if len(set(ids)) < len(ids):
            twice = next(each for each in ids if ids.count(each) > 1)
            raise refused(
                "order_signed_twice",
                f"signer {twice[:64]!r} signed it twice",
                "Have it signed by two different ones",
            )
        roles: set[str] = set()
        for each in file.signatures:
            if each.signer not in self._known:
                raise refused(
                    "order_unknown_signer",
                    f"nobody here knows signer {each.signer[:64]!r}",
                    "Have it signed by those whose keys are named here, or name the new key",
                )
            role, verifier = self._known[each.signer]
            signed = Signed(file.body.encode(), each.signer, each.signature)
            if not verifier.is_genuine(DOMAIN, signed):
                raise refused(
                    "order_forged",
                    f"it is not what signer {each.signer} signed",
                    "Get the order from who made it once more",
                )
            roles.add(role)
        return roles


def check_place(order: Placed, node: str, log_id: str | None) -> None:
    """SecurityError `order_for_another` unless it is for this node, and this log."""
    if node not in order.nodes:
        raise refused(
            "order_for_another",
            f"it is for {', '.join(order.nodes) or 'nobody'}, and this is {node}",
            "Carry it out there, or make one that names this node",
        )
    if log_id is not None and order.log_ids and log_id not in order.log_ids:
        raise refused(
            "order_for_another",
            f"it is for log {', '.join(order.log_ids)}, and this is {log_id}",
            "Make an order for this log: the box was set up anew, or its disk is another",
        )


def check_time(order: Placed, utc_ns: int | None) -> None:
    """SecurityError unless it is certain that the order is good now."""
    if utc_ns is None:
        raise refused(
            "order_time_unknown",
            "it expires, and this machine does not know the time yet",
            "Set the clock, or wait until it is set",
        )
    if utc_ns >= order.expires_utc_ns:
        raise refused("order_expired", "it has expired", "Make a new one, and have it signed")
    if utc_ns < order.issued_utc_ns - EARLY_NS:
        raise refused(
            "order_not_yet",
            "it was issued later than this machine's clock says it is now",
            "Set the clock here, or that where the order was made",
        )


def refused(code: str, why: str, remedy: str) -> SecurityError:
    return SecurityError(code, "the order was not carried out", why=why, remedy=remedy)


def not_good(code: str, why: str, remedy: str) -> SecurityError:
    return SecurityError(code, "this order is not a good one", why=why, remedy=remedy)


def unreadable(why: str) -> SecurityError:
    return SecurityError(
        "order_unreadable",
        "this is no order",
        why=why,
        remedy="Name the file that `brainforge-edge erase request` wrote",
    )


def _signers(why: str) -> SecurityError:
    return SecurityError(
        "order_signers",
        "orders cannot be carried out here",
        why=why,
        remedy='Name two different keys, one of role "fleet" and one of role "clinician"',
    )
