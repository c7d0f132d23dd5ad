"""When a certificate is to be renewed. Runs in: any process. No I/O, and no failure: a box may have no clock."""

import hashlib
from datetime import datetime
from enum import StrEnum

from brainforge_edge.security.certificates import Certificate

_AT = 0.66  # of its life
_SPREAD = 0.1  # of its life, so that a site's boxes do not ask all at once


class Renewal(StrEnum):
    NOT_YET = "not_yet"
    DUE = "due"
    EXPIRED = "expired"  # a token is needed
    UNKNOWN = "unknown"  # the clock is not known, or says what cannot be


def renewal_time(certificate: Certificate) -> datetime:
    """From 66 % of its life, later by up to a tenth of it, which the serial number decides."""
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    digest = hashlib.sha256(certificate.serial_number.to_bytes(20, "big")).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return since + (until - since) * (_AT + _SPREAD * share)


def renewal(certificate: Certificate, now: datetime | None) -> Renewal:
    """`now` None: the clock is not known."""
    if now is None or now < certificate.not_valid_before_utc:
        return Renewal.UNKNOWN
    if now > certificate.not_valid_after_utc:
        return Renewal.EXPIRED
    return Renewal.DUE if now >= renewal_time(certificate) else Renewal.NOT_YET
