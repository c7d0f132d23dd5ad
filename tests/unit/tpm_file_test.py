"""The file of a key in a TPM, and its name: what is taken, and what is refused with a reason. No TPM is asked."""

import os
from pathlib import Path

import pytest
import tpm2_pytss as tss
from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.agreement import point_of
from brainforge_edge.security.keystore import store_at
from brainforge_edge.security.tpmfile import (
    TCTI,
    TpmKey,
    TpmUri,
    encoded,
    parse_uri,
    read_key,
    template,
)

POINT = point_of(ec.derive_private_key(7, ec.SECP256R1()).public_key())
X, Y = POINT[1:33], POINT[33:]
AGREES = tss.TPMA_OBJECT(int.from_bytes(template(b"")[6:10], "big"))
SIGNS = AGREES & ~tss.TPMA_OBJECT.DECRYPT | tss.TPMA_OBJECT.SIGN_ENCRYPT
STORES = AGREES | tss.TPMA_OBJECT.RESTRICTED


def public(*, head: bytes = b"", x: bytes = X, y: bytes = Y) -> bytes:
    """TPM2B_PUBLIC as a TPM hands it out: the template with a point in it; `head` replaces its first bytes."""
    body = template(b"")[2:-4]
    body = head + body[len(head) :]
    for part in (x, y):
        body += len(part).to_bytes(2, "big") + part
    return len(body).to_bytes(2, "big") + body


KEY = TpmKey(public(), b"\0\3abc", (4, 7))


def kept(folder: Path, key: TpmKey = KEY) -> Path:
    path = folder / "box.tpm"
    path.write_bytes(encoded(key))
    path.chmod(0o600)
    return path


def refused(path: Path) -> SecurityError:
    with pytest.raises(SecurityError) as caught:
        read_key(path)
    assert str(path) in caught.value.what
    return caught.value


def what_is_read(path: Path) -> TpmKey | str:
    """The key, or the code of why not."""
    try:
        return read_key(path)
    except SecurityError as error:
        return error.code


def test_a_key_is_read_as_it_was_kept(tmp_path: Path) -> None:
    assert read_key(kept(tmp_path)) == KEY
    assert point_of(KEY.public_key()) == POINT


def test_a_coordinate_without_its_zeros_in_front_is_the_same() -> None:
    """As TPMs of older versions hand it out."""
    number = next(
        n
        for n in range(1, 10_000)
        if point_of(ec.derive_private_key(n, ec.SECP256R1()).public_key())[1] == 0
    )
    point = point_of(ec.derive_private_key(number, ec.SECP256R1()).public_key())
    key = TpmKey(public(x=point[2:33], y=point[33:]), b"")
    assert point_of(key.public_key()) == point


def test_the_template_is_what_the_library_takes_for_such_a_key() -> None:
    """An oracle that is not ours."""
    for policy in (b"", bytes(32)):
        read, length = tss.TPM2B_PUBLIC.unmarshal(template(policy))
        assert length == len(template(policy))
        area, attributes = read.publicArea, read.publicArea.objectAttributes
        assert (area.type, area.nameAlg) == (tss.TPM2_ALG.ECC, tss.TPM2_ALG.SHA256)
        assert area.parameters.eccDetail.curveID == tss.TPM2_ECC.NIST_P256
        bits = tss.TPMA_OBJECT
        wanted = bits.FIXEDTPM | bits.FIXEDPARENT | bits.SENSITIVEDATAORIGIN | bits.DECRYPT
        wanted |= bits.NODA | (0 if policy else bits.USERWITHAUTH)
        assert attributes == wanted
        assert bytes(area.authPolicy) == policy


def test_no_changed_byte_goes_unseen(tmp_path: Path) -> None:
    path = kept(tmp_path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert what_is_read(path) in {KEY, "security.tpm_file"}, at
        path.write_bytes(whole[:at])
        if at < len(whole) - 1:
            assert refused(path).code == "security.tpm_file"


@pytest.mark.parametrize("words", [b"", b"{}", b"null", b"[" * 5000, b"\xff" * 20, b" " * 20_000])
def test_what_is_no_key_file_is_refused(tmp_path: Path, words: bytes) -> None:
    path = kept(tmp_path)
    path.write_bytes(words)
    error = refused(path)
    assert error.code == "security.tpm_file"
    assert "recovery key" in error.remedy


def test_a_file_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = kept(tmp_path)
    path.chmod(0o640)
    assert "chmod 600" in refused(path).remedy
    path.unlink()
    assert "no such file" in refused(path).why
    os.mkfifo(path, 0o600)
    assert "no regular file" in refused(path).why


@pytest.mark.parametrize(
    ("other", "attributes"),
    [
        ("rsa2048", AGREES), ("ecc384", AGREES), ("ecc:ecdsa", SIGNS),
        ("ecc:aes128cfb", STORES), ("aes128", AGREES), ("hmac", SIGNS),
    ],
)  # fmt: skip
def test_other_kinds_of_key_are_refused(
    tmp_path: Path, other: str, attributes: tss.TPMA_OBJECT
) -> None:
    made = tss.TPM2B_PUBLIC.parse(other, objectAttributes=attributes)
    error = refused(kept(tmp_path, TpmKey(made.marshal(), b"\0\0")))
    assert error.code == "security.tpm_kind"
    assert "keys make" in error.remedy


@pytest.mark.parametrize("bit", [1, 4, 5, 16, 17, 18])
def test_a_key_that_could_leave_its_tpm_or_does_not_agree_is_refused(
    tmp_path: Path, bit: int
) -> None:
    """fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt, sign."""
    head = template(b"")[2:10]
    changed = (int.from_bytes(head, "big") ^ 1 << bit).to_bytes(8, "big")
    key = TpmKey(public(head=changed), b"\0\0")
    assert refused(kept(tmp_path, key)).code == "security.tpm_kind"


@pytest.mark.parametrize(
    "data", [public()[:-1], public() + b"\0", b"", b"\0", public(x=b""), public(x=Y)]
)
def test_a_public_half_that_is_cut_longer_or_not_on_the_curve_is_refused(
    tmp_path: Path, data: bytes
) -> None:
    assert refused(kept(tmp_path, TpmKey(data, b"\0\0"))).code == "security.tpm_kind"


def test_a_uri_names_a_file_and_the_way_to_the_tpm() -> None:
    path = Path("/var/lib/brainforge/keys/box.tpm")
    assert parse_uri(f"tpm2:{path}") == TpmUri(path, TCTI)
    assert parse_uri(f"tpm2:{path}?tcti=device:/dev/tpm0") == TpmUri(path, "device:/dev/tpm0")
    swtpm = "swtpm:host=127.0.0.1,port=2321"
    assert parse_uri(f"tpm2:/a%20b?tcti={swtpm}") == TpmUri(Path("/a b"), swtpm)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tpm2:", "file of the key is missing"),
        ("tpm2:?tcti=device:/dev/tpm0", "file of the key is missing"),
        ("tpm2:/a?pin=1", "pin is not known"),
        ("tpm2:/a?tcti=", "begins with none of"),
        ("tpm2:/a?tcti=cmd:rm", "begins with none of"),
        ("tpm2:/a?tcti=device", "begins with none of"),
        ("tpm2:/a?tcti=device:%00", "begins with none of"),
    ],
)
def test_a_uri_that_names_no_key_is_refused(text: str, why: str) -> None:
    with pytest.raises(SecurityError, match=why) as caught:
        store_at(text)
    assert caught.value.code == "security.tpm_uri"
