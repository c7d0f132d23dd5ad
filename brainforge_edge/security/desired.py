"""Desired state: what a box is to be from now on, signed by the fleet. Runs in: agent process; tools. No I/O.

It travels as an order does (`security.order`), and is of a kind that one signer may sign. Each state
replaces the one before as a whole; what it leaves empty is as the box's configuration says.
"""

from typing import Literal

import msgspec

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.security.order import (
    DESIRED,
    Counter,
    OrderFile,
    Signers,
    UtcNs,
    check_kind,
    check_names,
    kind_of,
    not_good,
    unreadable,
)
from brainforge_edge.security.sign import read_verifier
from brainforge_edge.security.wrap import Recipient

AGGREGATOR = "aggregator"
RECOVERY = "recovery"


class SealState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For whom new recordings are sealed and old ones wrapped again: public keys, PEM."""

    aggregator: str = ""
    recovery: str = ""


class DesiredState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The statement."""

    kind: Literal["desired"] = "desired"
    format: Literal[1] = 1
    nodes: tuple[str, ...]
    log_ids: tuple[str, ...] = ()  # hex; empty: all of the nodes'
    issued_utc_ns: UtcNs
    expires_utc_ns: UtcNs  # until then it may be taken; what was taken stands until the next
    counter: Counter  # its version: higher than that of every state before it
    seal: SealState = SealState()
    signer: str = ""  # public key of the aggregator's receipts, PEM

    def recipients(self) -> tuple[Recipient, ...]:
        """Whose public keys it names."""
        named = ((AGGREGATOR, self.seal.aggregator), (RECOVERY, self.seal.recovery))
        return tuple(Recipient(role, pem.encode()) for role, pem in named if pem)


_decoder = msgspec.json.Decoder(DesiredState)


def new_desired(state: DesiredState) -> OrderFile:
    """SecurityError unless it is one that may be signed."""
    return OrderFile(msgspec.json.encode(_bounded(state)).decode())


def desired_statement(file: OrderFile) -> DesiredState:
    """What it says, whoever signed it; SecurityError for what nobody may sign or apply."""
    check_kind(kind_of(file), DESIRED)
    try:
        state = _decoder.decode(file.body)
    except GARBLED as error:
        raise unreadable(str(error)) from error
    return _bounded(state)


def checked_state(file: OrderFile, signers: Signers) -> DesiredState:
    """The statement, if a fleet key signed it; SecurityError says what is missing."""
    signers.check_signed(file, DESIRED)
    return desired_statement(file)


def _bounded(state: DesiredState) -> DesiredState:
    check_names(state)
    try:
        for recipient in state.recipients():
            assert recipient.id
        if state.signer:
            read_verifier(state.signer.encode(), "signer")
    except SecurityError as error:
        raise not_good(
            "order_key", f"a key in it cannot be used: {error.why}", "Name the right .pem file"
        ) from error
    return state
