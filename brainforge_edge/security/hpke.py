"""Opening an HPKE message (RFC 9180) with a private key that does only its key agreement elsewhere. No I/O.

For tokens: they hand out the Diffie-Hellman value and keep the key. Base mode, DHKEM(P-256, HKDF-SHA256),
HKDF-SHA256, AES-256-GCM, one message; writers use the library's own (`wrap.SUITE`). Names as in the RFC.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ENC_BYTES = 65  # an uncompressed point of P-256
_KEM = b"KEM\x00\x10"
_HPKE = b"HPKE\x00\x10\x00\x01\x00\x02"

Agree = Callable[[bytes], bytes]  # the peer's point (65 bytes) → x of the shared point (32 bytes)


def open_message(message: bytes, public: bytes, agree: Agree, info: bytes) -> bytes:
    """The plaintext; `public` is our own point (65 bytes). InvalidTag or ValueError if it is not for us."""
    enc, sealed = message[:ENC_BYTES], message[ENC_BYTES:]
    if len(enc) < ENC_BYTES or len(sealed) < 16:
        raise ValueError("the message is too short")
    prk = _extract(_KEM, b"", b"eae_prk", agree(enc))
    shared = _expand(_KEM, prk, b"shared_secret", enc + public, 32)
    context = b"\0" + _extract(_HPKE, b"", b"psk_id_hash", b"")
    context += _extract(_HPKE, b"", b"info_hash", info)
    secret = _extract(_HPKE, shared, b"secret", b"")
    key = _expand(_HPKE, secret, b"key", context, 32)
    nonce = _expand(_HPKE, secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, sealed, b"")


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, sha256).digest()


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.new(prk, labeled + b"\1", sha256).digest()[:length]  # at most one block
