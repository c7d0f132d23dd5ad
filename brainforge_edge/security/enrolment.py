"""What a box and its site's authority hand each other, so that neither takes a stranger's word. Runs in: command line tools. No I/O.

A token is shared beforehand. It is in none of the files: request and answer carry a MAC under it, so that
they may travel on any stick or wire, and whoever changes one is found out. A renewal is signed with the key
that the box has, its answer with the key of the authority that the box knows.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.certificates import (
    Certificate,
    PrivateKey,
    common_name,
    is_issued_by,
    make_request,
    pem,
    public_der,
    public_of,
    read_certificate,
    read_request,
)
from brainforge_edge.security.sitekeys import SiteKeys, site_keys

F = TypeVar("F", "Request", "Answer")

_ID_BYTES = 8
_SECRET_BYTES = 32
_TOKEN = re.compile(r"bfe1-([0-9a-f]{16})-([0-9a-f]{64})")
_ASKING = b"brainforge enrolment request 1\0"
_RENEWING = b"brainforge renewal request 1\0"
_ANSWERING = {1: b"brainforge enrolment answer 1\0", 2: b"brainforge enrolment answer 2\0"}
_RENEWED = b"brainforge renewal answer 2\0"
MOST_BYTES = 64 * 1024  # of a request or an answer
_SIGN = "Make it with brainforge-edge cloud ca sign"


@dataclass(frozen=True, slots=True)
class Token:
    """Shown once; the authority keeps `kept`, and what was made with a token is checked against that."""

    id: str
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return f"bfe1-{self.id}-{self.secret.hex()}"

    @property
    def kept(self) -> bytes:
        return hashlib.sha256(self.secret).digest()


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate request and who vouches for it: a token, or a certificate that is to be renewed."""

    request: str  # PKCS#10, PEM
    proof: bytes
    token: str = ""  # its id
    certificate: str = ""
    format: int = 1


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Format 1 knew no keys, and nothing proved that of a renewal but its certificate itself."""

    certificate: str
    ca: str
    proof: bytes = b""  # a MAC under the token, or for a renewal the authority's signature
    keys: SiteKeys = SiteKeys()
    format: int = 1

    def parts(self) -> tuple[bytes, ...]:
        texts = self.certificate.encode(), self.ca.encode()
        return texts if self.format == 1 else (*texts, *self.keys.parts())


class Accepted(NamedTuple):
    """What a box may use."""

    certificate: Certificate
    ca: Certificate
    keys: SiteKeys
    is_by_token: bool  # else the known authority says so


def make_token(random: Callable[[int], bytes]) -> Token:
    return Token(random(_ID_BYTES).hex(), random(_SECRET_BYTES))


def read_token(text: str) -> Token:
    found = _TOKEN.fullmatch(text.strip())
    if found is None:
        raise SecurityError(
            "not_a_token",
            "the enrolment token cannot be used",
            why="it does not read bfe1-…, or a part of it is missing",
            remedy="Copy the whole line that brainforge-edge cloud ca token printed",
        )
    return Token(found[1], bytes.fromhex(found[2]))


def ask(key: PrivateKey, name: str, token: Token) -> bytes:
    """A first request, as a file."""
    request = make_request(key, name)
    proof = _mac(token.kept, _ASKING, request)
    return msgspec.json.encode(Request(request.decode(), proof, token=token.id))


def ask_again(key: PrivateKey, name: str, own: tuple[PrivateKey, Certificate]) -> bytes:
    """A renewal, as a file: `own` is what vouches for the new key."""
    request = make_request(key, name)
    proof = own[0].sign(_RENEWING + request, ec.ECDSA(hashes.SHA256()))
    return msgspec.json.encode(Request(request.decode(), proof, certificate=pem(own[1]).decode()))


def read_ask(data: bytes) -> Request:
    asked = _decoded(data, Request, "request", "Make it with brainforge-edge enrol request")
    if asked.format != 1:
        raise _unreadable("request", "Make it with brainforge-edge enrol request")
    return asked


def is_still_good(
    data: bytes, key: PrivateKey, vouched: Token | tuple[PrivateKey, Certificate]
) -> bool:
    """Whether a request that was kept is whole, asks for `key`, and is vouched for by this token or certificate."""
    try:
        asked = read_ask(data)
        _, public = read_request(asked.request.encode())
        if public_der(public) != public_der(key.public_key()):
            return False
        if isinstance(vouched, Token):
            return asked.token == vouched.id and is_by_token(asked, vouched.kept)
        held = read_certificate(asked.certificate.encode(), "in the request")
    except SecurityError:
        return False
    return held == vouched[1] and is_by_owner(asked, held)


def is_by_token(request: Request, kept: bytes) -> bool:
    expected = _mac(kept, _ASKING, request.request.encode())
    return hmac.compare_digest(request.proof, expected)


def is_by_owner(request: Request, certificate: Certificate) -> bool:
    """Whether who asks has the key of the certificate that is to be renewed."""
    return _is_signed(request.proof, certificate, _RENEWING + request.request.encode())


def answer(
    certificate: Certificate,
    authority: tuple[PrivateKey, Certificate],
    kept: bytes | None,
    keys: SiteKeys = SiteKeys(),  # noqa: B008 (frozen)
) -> bytes:
    """What the box is handed back: proven by the token `kept`, or signed for one that knows the authority."""
    key, ca = authority
    said = Answer(pem(certificate).decode(), pem(ca).decode(), keys=keys, format=2)
    if kept is not None:
        proof = _mac(kept, _ANSWERING[2], *said.parts())
    else:
        proof = key.sign(_RENEWED + _joined(said.parts()), ec.ECDSA(hashes.SHA256()))
    return msgspec.json.encode(msgspec.structs.replace(said, proof=proof))


def certified(data: bytes) -> bytes:
    """The public key that an answer has a certificate for, proven or not."""
    said = _decoded(data, Answer, "answer", _SIGN)
    return public_of(read_certificate(said.certificate.encode(), "in the answer"))


def accept(
    data: bytes, *, name: str, key: PrivateKey, token: Token | None, known: Certificate | None
) -> Accepted:
    """The certificate for `key`, the authority's, and the site's keys: if who has the token says so, or who is `known`."""
    said = _decoded(data, Answer, "answer", _SIGN)
    # No proof of format 1 covers keys.
    has_unproven = said.format == 1 and said.keys != SiteKeys()
    if said.format not in _ANSWERING or has_unproven:
        raise _unreadable("answer", _SIGN)
    certificate, ca = (
        read_certificate(text.encode(), "in the answer") for text in (said.certificate, said.ca)
    )
    is_proven = token is not None and hmac.compare_digest(
        said.proof, _mac(token.kept, _ANSWERING[said.format], *said.parts())
    )
    # In format 1 only the certificate itself, which is looked at below, shows who renewed it.
    is_renewed = known == ca and (
        said.format == 1 or _is_signed(said.proof, ca, _RENEWED + _joined(said.parts()))
    )
    if not is_proven and not is_renewed:
        raise SecurityError(
            "answer_unproven",
            "the signed certificate was not installed",
            why="nothing shows that it comes from this site's authority as it is: it was not made with this box's token, or not by the authority that the box knows, or was changed on its way",
            remedy="Give the token of the request with --token-file, or enrol again with a new one",
        )
    if public_of(certificate) != public_der(key.public_key()):
        raise SecurityError(
            "answer_of_another_key",
            "the signed certificate was not installed",
            why="it is not of the key of the last request",
            remedy="Install the answer to that one, or make a new request",
        )
    if common_name(certificate) != name or not is_issued_by(certificate, ca):
        raise SecurityError(
            "answer_of_another_node",
            "the signed certificate was not installed",
            why=f"it is of {common_name(certificate)!r}, this box is {name!r}, or its authority did not sign it",
            remedy="Install the answer to this box's request",
        )
    return Accepted(certificate, ca, site_keys(said.keys.given()), is_proven)


def _decoded(data: bytes, kind: type[F], what: str, remedy: str) -> F:
    try:
        if len(data) <= MOST_BYTES:
            return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    raise _unreadable(what, remedy)


def _unreadable(what: str, remedy: str) -> SecurityError:
    return SecurityError(
        f"{what}_unreadable",
        f"the {what} cannot be read",
        why="the file is no such thing, was cut off or is of another version",
        remedy=remedy,
    )


def _is_signed(signature: bytes, by: Certificate, data: bytes) -> bool:
    key = by.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _mac(kept: bytes, what: bytes, *parts: bytes) -> bytes:
    return hmac.new(kept, what + _joined(parts), hashlib.sha256).digest()


def _joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
