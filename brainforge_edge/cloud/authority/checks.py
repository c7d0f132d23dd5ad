"""Whether a request is signed, by what the ledger knows. Runs in: as the authority. No I/O; SecurityError says why not."""

from datetime import datetime
from typing import Final

from brainforge_edge.cloud.authority.ledger import Invitation, Issued, Ledger
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security import certificates
from brainforge_edge.security.certificates import Certificate, Role, common_name, read_certificate
from brainforge_edge.security.enrolment import Request, is_by_owner, is_by_token

MOST_LIVE: Final = (
    16  # certificates of one box at a time: one that renews without end fills no ledger
)
_TOKEN = "Give the box a new token: brainforge-edge cloud ca token"  # noqa: S105 (a sentence)


def invitation(ledger: Ledger, asked: Request, name: str, now: datetime) -> Invitation:
    """The token of a request, if it is good for it."""
    found = _invited(ledger, asked)
    if found.used is not None:
        day = certificates.day(found.used)
        raise _refused(
            "token_used", f"its token was used on {day}, and is good for one request", _TOKEN
        )
    if now > found.until:
        day = certificates.day(found.until)
        raise _refused("token_expired", f"its token was good until {day}", _TOKEN)
    if found.name != name:
        raise _refused(
            "token_of_another", f"its token is for {found.name!r}, it asks for {name!r}", _TOKEN
        )
    return found


def check_renewal(
    ledger: Ledger, ca: Certificate, asked: Request, name: str, now: datetime
) -> None:
    """Of a certificate of `ca` that holds, by who has its key."""
    held = read_certificate(asked.certificate.encode(), "in the request")
    serial = f"{held.serial_number:x}"
    issued = next((each for each in ledger.issued if each.serial == serial), None)
    if issued is None or not certificates.is_issued_by(held, ca):
        raise _refused("certificate_unknown", "this authority did not issue what it is to renew")
    if not is_by_owner(asked, held):
        raise _refused("request_forged", "who made it does not have the key of that certificate")
    if issued.revoked is not None:
        raise _refused("certificate_revoked", "the certificate that it is to renew was revoked")
    if not certificates.is_valid_at(held, now):
        until = certificates.day(issued.until)
        raise _refused("certificate_expired", f"what it is to renew was valid until {until}")
    if issued.role is not Role.NODE or common_name(held) != name:
        raise _refused("renewal_of_another", f"what it is to renew is of {common_name(held)!r}")
    live = [each for each in ledger.issued if each.name == name and each.is_valid_at(now)]
    if len(live) >= MOST_LIVE:
        raise _refused(
            "too_many_certificates",
            f"{len(live)} certificates of {name!r} hold already",
            "See brainforge-edge cloud ca list, and revoke what is not in use",
        )


def check_again(
    ledger: Ledger, issued: Issued, asked: Request, request: str, now: datetime
) -> bytes | None:
    """For a request (SHA-256 `request`) of a key that was certified: by what the answer is proven again.

    Only the very same request is answered again, and only while its certificate holds.
    """
    if issued.request != request:
        raise _refused(
            "key_known", "a certificate was made for its key before", "Make a new request"
        )
    if issued.revoked is not None:
        raise _refused("certificate_revoked", "the certificate that was made for it was revoked")
    if now > issued.until or not issued.certificate:
        until = certificates.day(issued.until)
        raise _refused(
            "certificate_expired", f"the certificate that was made for it was valid until {until}"
        )
    return _invited(ledger, asked).kept if asked.token else None


def check_authority(ca: Certificate, now: datetime) -> None:
    """An authority that has expired signs nothing more."""
    if now > ca.not_valid_after_utc:
        raise SecurityError(
            "authority_expired",
            "no certificate was made",
            why=f"the authority itself was valid until {certificates.day(ca.not_valid_after_utc)}",
            remedy="Set the clock if it is wrong; else make a new authority, and enrol every box anew",
        )


def _invited(ledger: Ledger, asked: Request) -> Invitation:
    found = ledger.invitation(asked.token)
    if found is None:
        raise _refused("token_unknown", "this authority gave out no such token", _TOKEN)
    if not is_by_token(asked, found.kept):
        raise _refused(
            "request_forged", "it was changed, or not made with the token it names", _TOKEN
        )
    return found


def _refused(
    code: str, why: str, remedy: str = "Enrol the box with a token: brainforge-edge cloud ca token"
) -> SecurityError:
    return SecurityError(code, "the request was not signed", why=why, remedy=remedy)
