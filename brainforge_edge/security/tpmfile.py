"""A key in a TPM 2: how it is named, and the file with what its TPM wrapped. Runs in: any process. No TPM is asked.

A URI: `tpm2:/var/lib/brainforge/keys/box.tpm?tcti=device:/dev/tpmrm0`. The file is JSON with a CRC, so that damage
and the key of another TPM have different names: a TPM says the same of both.
"""

import errno
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.security.agreement import HeldKeyUnusable

SCHEME = "tpm2:"
SUFFIX = ".tpm"
TCTI = "device:/dev/tpmrm0"  # the kernel's resource manager
TCTI_KINDS = ("device", "swtpm", "tabrmd")  # not `cmd`: it would start a program
N_PCRS = 24
_MOST_BYTES = 16 * 1024
# TPMT_PUBLIC (TPM 2.0 library, part 2): type, name algorithm, attributes; policy; no symmetric algorithm, no
# scheme, curve P-256, no KDF; the point.
_HEAD = struct.Struct(">HHI")
_ECC, _SHA256 = 0x0023, 0x000B
_P256 = bytes.fromhex("0010 0010 0003 0010")
# fixedTPM, fixedParent, sensitiveDataOrigin: made inside, and never leaves it.
_STAYS = 0x2 | 0x10 | 0x20
_USER_WITH_AUTH, NO_DA, _DECRYPT = 0x40, 0x400, 0x20000
_RESTRICTED, _SIGN = 0x10000, 0x40000


@dataclass(frozen=True, slots=True)
class TpmUri:
    """The file of a key, and how its TPM is reached."""

    path: Path
    tcti: str


class TpmKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the TPM handed out of a key; of use to that TPM alone."""

    public: bytes  # TPM2B_PUBLIC
    private: bytes  # TPM2B_PRIVATE: encrypted and authenticated by the TPM
    pcrs: tuple[int, ...] = ()  # whose values (SHA-256 bank) it is bound to
    format: int = 1

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """ValueError if it is of another kind than `template` makes."""
        body, rest = _taken(self.public)
        kind, name, attributes = _HEAD.unpack_from(body.ljust(_HEAD.size))
        _, after = _taken(body[_HEAD.size :])
        is_kind = (kind, name, after[: len(_P256)]) == (_ECC, _SHA256, _P256)
        wanted = _STAYS | _DECRYPT
        if not is_kind or attributes & (wanted | _RESTRICTED | _SIGN) != wanted:
            raise ValueError("not for agreement on P-256, or not bound to its TPM")
        x, after = _taken(after[len(_P256) :])
        y, after = _taken(after)
        if rest or after:
            raise ValueError("longer than it says")
        point = b"\4" + x.rjust(32, b"\0") + y.rjust(32, b"\0")
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


class _Kept(TpmKey, frozen=True, forbid_unknown_fields=True):
    crc: int = 0  # CRC-32C of the rest, as `_check` joins it


def parse_uri(text: str) -> TpmUri:
    """SecurityError names what is missing or not known."""
    path, _, query = text.removeprefix(SCHEME).partition("?")
    parts = dict(part.partition("=")[::2] for part in query.split("&") if part)
    tcti = parts.pop("tcti", TCTI)
    if not path or parts:
        raise SecurityError(
            "tpm_uri",
            f"{text} names no key in a TPM",
            why=f"{min(parts)} is not known here" if parts else "the file of the key is missing",
            remedy=f"Write tpm2:FILE, or tpm2:FILE?tcti=… if the TPM is not at {TCTI}",
        )
    return TpmUri(Path(unquote(path)), checked_tcti(unquote(tcti)))


def checked_tcti(text: str) -> str:
    """The same; SecurityError if it is no way to a TPM that is known here."""
    kind, colon, _ = text.partition(":")
    if kind in TCTI_KINDS and colon and text.isprintable():
        return text
    raise SecurityError(
        "tpm_uri",
        f"{text!r} leads to no TPM",
        why=f"it begins with none of {', '.join(f'{kind}:' for kind in TCTI_KINDS)}",
        remedy=f"Write {TCTI}, or swtpm:path=SOCKET for a TPM that is a program",
    )


def template(policy: bytes) -> bytes:
    """TPM2B_PUBLIC of a key to be made; `policy` (32 bytes, or none) is to hold at each use.

    Without a password, and exempt from the lockout that follows wrong guesses at other keys.
    """
    attributes = _STAYS | NO_DA | _DECRYPT | (0 if policy else _USER_WITH_AUTH)
    head = _HEAD.pack(_ECC, _SHA256, attributes)
    return _sized(head + _sized(policy) + _P256 + _sized(b"") + _sized(b""))


def read_key(path: Path) -> TpmKey:
    """SecurityError `tpm_file` if it cannot be read or is damaged, `tpm_kind` if it is of another kind."""
    try:
        key = _read(path)
    except OSError as error:
        raise file_error(path, error) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise _bad_file(
            path,
            "it is not what keys make wrote, or was damaged since",
            "Put a copy of it there; without one use the recovery key, and make a new pair",
        ) from error
    try:
        key.public_key()
    except ValueError as error:
        raise HeldKeyUnusable(
            "tpm_kind",
            f"the key {path} was not used",
            why=f"it is another kind of key: {error}",
            remedy="Make one with brainforge-edge keys make --tpm",
        ) from error
    return key


def encoded(key: TpmKey) -> bytes:
    """The bytes of its file."""
    kept = _Kept(key.public, key.private, key.pcrs, crc=_check(key))
    return msgspec.json.format(msgspec.json.encode(kept)) + b"\n"


def file_error(path: Path, error: OSError) -> HeldKeyUnusable:
    return _bad_file(
        path, (error.strerror or str(error)).lower(), "Name a file that this user may read"
    )


def _read(path: Path) -> TpmKey:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # a pipe would keep whoever reads it waiting
        raise OSError(errno.EINVAL, "it is no regular file")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _bad_file(path, "others may read it", f"Run chmod 600 {path}")
    with path.open("rb") as file:
        return decoded(file.read(_MOST_BYTES + 1))


def decoded(data: bytes) -> TpmKey:
    """What `encoded` made; ValueError or msgspec.DecodeError for anything else."""
    if len(data) > _MOST_BYTES:
        raise ValueError("too long")
    kept = msgspec.json.decode(data, type=_Kept)
    if kept.format != 1 or not all(0 <= n < N_PCRS for n in kept.pcrs) or kept.crc != _check(kept):
        raise ValueError("not as it was written")
    return TpmKey(kept.public, kept.private, kept.pcrs)


def _check(key: TpmKey) -> int:
    return crc32c(key.private, crc32c(key.public, crc32c(bytes((key.format, *key.pcrs)))))


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _taken(data: bytes) -> tuple[bytes, bytes]:
    """A TPM2B's content, and what follows it; ValueError."""
    end = 2 + int.from_bytes(data[:2], "big")
    if not 2 <= end <= len(data):
        raise ValueError("shorter than it says")
    return data[2:end], data[end:]


def _bad_file(path: Path, why: str, remedy: str) -> HeldKeyUnusable:
    return HeldKeyUnusable("tpm_file", f"the key {path} was not used", why=why, remedy=remedy)
