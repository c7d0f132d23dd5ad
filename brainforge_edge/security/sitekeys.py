"""The public keys of a site that every box needs besides the authority's certificate. Runs in: any process. No I/O.

Nothing of it is secret. What matters is who says so: they come with an enrolment's answer, and are
proven with it.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.sign import read_verifier
from brainforge_edge.security.wrap import read_public, recipient_id

SEALERS: Final = ("aggregator", "recovery")  # for whom boxes seal, P-256
SIGNER: Final = "signer"  # of receipts, Ed25519
ROLES: Final = (*SEALERS, SIGNER)


class SiteKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Each as PEM; "" for one that the site does not give out."""

    aggregator: str = ""
    recovery: str = ""
    signer: str = ""

    def given(self) -> dict[str, bytes]:
        """Role → PEM."""
        pems = ((role, str(getattr(self, role))) for role in ROLES)
        return {role: pem.encode() for role, pem in pems if pem}

    def parts(self) -> tuple[bytes, ...]:
        """What a proof is made over, in a fixed order."""
        return tuple(str(getattr(self, role)).encode() for role in ROLES)


def site_keys(pems: Mapping[str, bytes]) -> SiteKeys:
    """SecurityError for one that is no public key of its kind."""
    for role, pem in pems.items():
        key_id(role, pem)
    return SiteKeys(**{role: pem.decode("ascii") for role, pem in pems.items()})


def key_id(role: str, pem: bytes) -> str:
    """By which a key is known, whatever its file looks like; SecurityError if it is none of its kind."""
    if not pem.isascii():
        raise SecurityError(
            "not_a_public_key",
            f"the public key of {role} cannot be used",
            why="it is no public key in PEM",
            remedy="Make one with brainforge-edge keys make, and give its .pem file here",
        )
    if role == SIGNER:
        return read_verifier(pem, f"the public key of {role}").id
    return recipient_id(read_public(pem, f"of {role}"))
