"""Private keys in a PKCS#11 token (HSM, smart card, SoftHSM): they agree on secrets and never leave it.

Runs in: recovery, command line tools, aggregator. Named by a URI as in RFC 7512:
`pkcs11:token=site;object=aggregator?module-path=/usr/lib/…so&pin-source=file:/run/credentials/…/pin`.
Needs the extra `hsm` (python-pkcs11), imported when a token is first asked.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.agreement import HeldKeyStore, HeldKeyUnusable
from brainforge_edge.security.hpke import ENC_BYTES

SCHEME = "pkcs11:"


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Which key of which token, and how to get at it."""

    module: str
    token: str
    object: str
    pin_source: str  # path of a file; "" for a token that asks for none


def parse_uri(text: str) -> TokenUri:
    """SecurityError names what is missing or not known."""
    path, _, query = text.removeprefix(SCHEME).partition("?")
    parts = dict(_pairs(path, ";", text)) | dict(_pairs(query, "&", text))
    unknown = sorted(set(parts) - {"token", "object", "module-path", "pin-source"})
    missing = [name for name in ("token", "object", "module-path") if not parts.get(name)]
    if unknown or missing:
        why = f"{unknown[0]} is not known here" if unknown else f"{missing[0]} is missing"
        raise _bad_uri(text, why)
    source = parts.get("pin-source", "").removeprefix("file:")
    return TokenUri(parts["module-path"], parts["token"], parts["object"], source)


class TokenKeyStore(HeldKeyStore):
    """One P-256 key pair in a token, found when first asked; a session for each question."""

    def __init__(self, uri: TokenUri) -> None:
        self._uri = uri
        self._public: ec.EllipticCurvePublicKey | None = None

    def _key(self) -> ec.EllipticCurvePublicKey:
        if self._public is None:
            with self._session() as (session, pkcs11):
                kind = pkcs11.constants.ObjectClass.PUBLIC_KEY
                key = session.get_key(object_class=kind, label=self._uri.object)
                encoded = bytes(key[pkcs11.constants.Attribute.EC_POINT])
            try:
                self._public = ec.EllipticCurvePublicKey.from_encoded_point(
                    ec.SECP256R1(),
                    encoded[-ENC_BYTES:],  # an OCTET STRING around it
                )
            except ValueError as error:
                raise _unusable(
                    self._uri, "it is not a P-256 key", "Make one of that curve in the token"
                ) from error
        return self._public

    def _agree(self, peer: bytes) -> bytes:
        with self._session() as (session, pkcs11):
            attribute = pkcs11.constants.Attribute
            private = session.get_key(
                object_class=pkcs11.constants.ObjectClass.PRIVATE_KEY, label=self._uri.object
            )
            shared = private.derive_key(
                pkcs11.KeyType.GENERIC_SECRET,
                256,
                mechanism_param=(pkcs11.KDF.NULL, None, peer),
                template={attribute.SENSITIVE: False, attribute.EXTRACTABLE: True},
            )
            return bytes(shared[attribute.VALUE])

    @contextmanager
    def _session(self) -> Iterator[tuple[Any, Any]]:
        uri = self._uri
        try:
            pkcs11 = importlib.import_module("pkcs11")
        except ImportError as error:
            raise _unusable(uri, "the package python-pkcs11 is not installed", "Install brainforge-edge[hsm]") from error  # fmt: skip
        try:
            token = pkcs11.lib(uri.module).get_token(token_label=uri.token)
            with token.open(user_pin=_pin(uri)) as session:
                yield session, pkcs11
        except pkcs11.PKCS11Error as error:
            is_named = type(error) is not pkcs11.PKCS11Error  # else a library that does not load
            raise _unusable(
                uri,
                _words(type(error).__name__) if is_named else str(error).lower(),
                "Check module-path, that the token is there, its name, the key's name and the PIN",
            ) from error


def _pin(uri: TokenUri) -> str | None:
    if not uri.pin_source:
        return None
    try:
        return Path(uri.pin_source).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = f"its PIN cannot be read from {uri.pin_source}"
        raise _unusable(uri, why, "Put the PIN there, readable for this user alone") from error


def _pairs(text: str, separator: str, whole: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if not equals:
            raise _bad_uri(whole, f"{part!r} has no value")
        yield name, unquote(value)


def _words(name: str) -> str:
    """PinIncorrect → pin incorrect."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _bad_uri(text: str, why: str) -> SecurityError:
    return SecurityError(
        "token_uri",
        f"{text} names no key in a token",
        why=why,
        remedy="Write pkcs11:token=NAME;object=NAME?module-path=LIBRARY&pin-source=file:PATH",
    )


def _unusable(uri: TokenUri, why: str, remedy: str) -> HeldKeyUnusable:
    return HeldKeyUnusable(
        "token",
        f"the key {uri.object} in the token {uri.token} was not used",
        why=why,
        remedy=remedy,
    )
