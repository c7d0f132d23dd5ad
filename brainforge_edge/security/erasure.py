"""What an erasure says that it did: a list, signed where there is a key to sign with. Runs in: the CLI process. No I/O."""

import msgspec

from brainforge_edge.security.sign import Signer

DOMAIN = "erasure"
# True of every erasure, wherever it runs; docs/sealing.md says why.
LIMITS = (
    "copies of wrapped keys in backups, in the hands of who keeps the recovery key, and at places that the order was not run at",
    "messages with wrapped keys that a broker keeps on its disk, as long as they were not delivered",
    "exports that were copied or moved, and what other programs made of them",
    "blocks that an SSD or a copy-on-write file system keeps after they were overwritten",
    "keys in the memory of processes that recorded or opened the rows, until they are started again",
)

NOBODY = "nobody of this name is known here: look whether the order names whom it should"


class Erased(msgspec.Struct, frozen=True):
    kind: str  # key, journal, export
    recording: str
    what: str


class NotReached(msgspec.Struct, frozen=True):
    kind: str  # plain, export, markers, unclear, aggregator, box, participant
    recording: str
    what: str
    why: str


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """The list."""

    order: str
    participant: str
    reason: str
    node: str  # where this was done
    done_utc_ns: int | None
    erased: tuple[Erased, ...]
    not_reached: tuple[NotReached, ...]
    limits: tuple[str, ...] = LIMITS


class SignedErasure(msgspec.Struct, frozen=True):
    """The list as JSON text, its signer's id and signature over it; both empty where it is not signed."""

    body: str
    signer: str = ""
    signature: bytes = b""


def signed_erasure(erasure: Erasure, signer: Signer | None) -> SignedErasure:
    body = msgspec.json.encode(erasure)
    if signer is None:
        return SignedErasure(body.decode())
    signed = signer.sign(DOMAIN, body)
    return SignedErasure(body.decode(), signed.signer, signed.signature)
