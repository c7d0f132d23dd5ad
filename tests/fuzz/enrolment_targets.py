"""What comes to an authority, and what comes back to a box: from anybody, since both are read before they are believed."""

from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from brainforge_edge.cloud.authority import checks
from brainforge_edge.cloud.authority.ledger import Invitation, Ledger
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.httpaddress import HttpAddress, http_address
from brainforge_edge.fleet import authority as client
from brainforge_edge.security import certificates
from brainforge_edge.security.certificates import Role
from brainforge_edge.security.enrolment import (
    Answer,
    Request,
    Token,
    _mac,
    accept,
    answer,
    ask,
    ask_again,
    read_ask,
)
from brainforge_edge.security.sign import make_signer
from brainforge_edge.security.sitekeys import SiteKeys
from tests.fuzz.target import Bytes, Target, plain

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TOKEN = Token("0" * 16, bytes(32))
KEY, CA_KEY = certificates.make_key(), certificates.make_key()
CA = certificates.make_authority(CA_KEY, "site", serial=1, now=NOW, days=400)
OWN = certificates.certify(
    (CA_KEY, CA), KEY.public_key(), name="bed-1", role=Role.NODE, serial=2, now=NOW, days=7
)
LEDGER = Ledger(invitations=(Invitation(TOKEN.id, "bed-1", TOKEN.kept, NOW),))
KEYS = SiteKeys(signer=make_signer()[1].decode())
ADDRESS = HttpAddress("127.0.0.1", 8480, False)


def run_request(data: bytes) -> None:
    """A first byte that is odd: proven anew, so that what is behind the proof is looked at."""
    source = Bytes(data)
    mends, body = source.number() % 2, source.rest()
    if mends:
        with suppress(msgspec.MsgspecError, UnicodeError):
            said = msgspec.json.decode(body, type=Request)
            proof = _mac(TOKEN.kept, b"brainforge enrolment request 1\0", said.request.encode())
            body = msgspec.json.encode(msgspec.structs.replace(said, proof=proof))
    with suppress(BrainforgeError):
        asked = read_ask(body)
        with suppress(BrainforgeError):
            checks.check_renewal(LEDGER, CA, asked, "bed-1", NOW)
        name, _ = certificates.read_request(asked.request.encode())
        checks.invitation(LEDGER, asked, name, NOW)


def request_seeds() -> list[bytes]:
    made = ask(KEY, "bed-1", TOKEN), ask_again(KEY, "bed-1", (KEY, OWN))
    return [bytes([mode]) + each for mode in (0, 1) for each in made]


def run_answer(data: bytes) -> None:
    source = Bytes(data)
    mends, body = source.number() % 2, source.rest()
    if mends:
        with suppress(msgspec.MsgspecError, UnicodeError):
            said = msgspec.json.decode(body, type=Answer)
            proof = _mac(TOKEN.kept, b"brainforge enrolment answer 2\0", *said.parts())
            body = msgspec.json.encode(msgspec.structs.replace(said, proof=proof))
    for token, known in ((TOKEN, None), (None, CA)):
        with suppress(BrainforgeError):
            accepted = accept(body, name="bed-1", key=KEY, token=token, known=known)
            assert accepted.certificate.public_key() == KEY.public_key()
            assert accepted.is_by_token == (token is not None)


def answer_seeds() -> list[bytes]:
    made = (answer(OWN, (CA_KEY, CA), kept, KEYS) for kept in (TOKEN.kept, None))
    return [bytes([mode]) + each for each in made for mode in (0, 1)]


def run_refusal(data: bytes) -> None:
    source = Bytes(data)
    error = client._refusal(ADDRESS, 400 + source.number(), source.rest())
    assert len(str(error)) < 1500
    assert str(error).isprintable()
    assert http_address(data.decode("utf-8", "replace")) is None or data[:4].lower() == b"http"


def refusal_seeds() -> list[bytes]:
    said = b'{"ok": false, "error": {"code": "security.token_used", "why": "so", "remedy": "no"}}'
    busy = said.replace(b"security.token_used", b"cloud.authority_busy")
    return [b"\3" + said, b"\146" + busy, b"\0<html>", b"https://[::1]:8480/", b"http://a:1"]


TARGETS = (
    Target("enrolment-request", request_seeds, plain(run_request), max_bytes=4096),
    Target("enrolment-answer", answer_seeds, plain(run_answer), max_bytes=8192),
    Target("enrolment-refusal", refusal_seeds, plain(run_refusal)),
)
