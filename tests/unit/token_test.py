"""A private key in a real PKCS#11 token (SoftHSM): it opens what was wrapped for it and never comes out."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pkcs11
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.constants import Attribute
from pkcs11.util.ec import encode_named_curve_parameters

from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.hpke import open_message
from brainforge_edge.security.keystore import store_at
from brainforge_edge.security.token import TokenKeyStore, parse_uri
from brainforge_edge.security.wrap import SUITE, KeyEntry, Recipient, make_data_key, wrap
from tests.unit.recorder_material import LOG_ID, seeded
from tests.unit.sealed_material import account, rows_chunk, sealed_segment, sealing

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "1234"
KEY = make_data_key(seeded(3))


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a token `site` that holds a pair `aggregator`, and its PIN. One library a process."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    (folder / "pin").write_text(f"{PIN}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", "site", "--pin", PIN,
             "--so-pin", PIN],
            check=True, capture_output=True,
        )  # fmt: skip
        with (
            pkcs11.lib(MODULE).get_token(token_label="site").open(rw=True, user_pin=PIN) as session
        ):
            for label, curve in (("aggregator", "secp256r1"), ("other-curve", "secp384r1")):
                parameters = session.create_domain_parameters(
                    pkcs11.KeyType.EC,
                    {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)},
                    local=True,
                )
                parameters.generate_keypair(
                    store=True, label=label, capabilities=pkcs11.MechanismFlag.DERIVE
                )
        yield folder


def uri(token: Path, *, name: str = "aggregator", pin: str = "pin", of: str = "site") -> str:
    return f"pkcs11:token={of};object={name}?module-path={MODULE}&pin-source=file:{token / pin}"


def test_what_was_wrapped_for_it_opens_and_the_key_stays_inside(token: Path) -> None:
    store = TokenKeyStore(parse_uri(uri(token)))
    recipient = Recipient("aggregator", store.public_pem())
    entry = KeyEntry(KEY.key_id.hex(), "", "helmet", wrap(KEY, LOG_ID, (recipient,)))
    assert store.opened(entry, LOG_ID) == KEY
    store.prove()
    with pkcs11.lib(MODULE).get_token(token_label="site").open(user_pin=PIN) as session:
        private = session.get_key(
            object_class=pkcs11.constants.ObjectClass.PRIVATE_KEY, label="aggregator"
        )
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            private[Attribute.VALUE]


def test_what_was_wrapped_for_others_or_changed_does_not_open(token: Path) -> None:
    store = TokenKeyStore(parse_uri(uri(token)))
    recipient = Recipient("aggregator", store.public_pem())
    (wrapped,) = wrap(KEY, LOG_ID, (recipient,))
    stranger = type(wrapped)("00" * 8, "box", wrapped.sealed)
    assert store.opened(KeyEntry(KEY.key_id.hex(), "", "x", (stranger,)), LOG_ID) is None
    changed = type(wrapped)(wrapped.to, wrapped.role, wrapped.sealed[:-1] + b"\0")
    for entry, log_id in (
        (KeyEntry(KEY.key_id.hex(), "", "x", (changed,)), LOG_ID),
        (KeyEntry(KEY.key_id.hex(), "", "x", (wrapped,)), LOG_ID[::-1]),
    ):
        with pytest.raises(SecurityError) as caught:
            store.opened(entry, log_id)
        assert caught.value.code == "security.wrapped_damaged"


def test_a_recording_is_read_with_the_key_in_the_token(
    token: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "public", uri(token), str(tmp_path), "--role", "aggregator"]) == 0
    public = Recipient("aggregator", (tmp_path / "aggregator.pem").read_bytes())
    key = sealing(tmp_path, (public,)).key_for("rec-1", "")
    sealed_segment(tmp_path, key, [rows_chunk(0, 80)])
    assert main(["verify", str(tmp_path / "rec-1"), "--keys", uri(token)]) == 0
    assert "sealed and no key" not in capsys.readouterr().out
    assert account(tmp_path, tmp_path).unopened == 1  # no file there opens it


def test_a_recording_is_not_called_damaged_because_the_pin_is_wrong(
    token: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "public", uri(token), str(tmp_path), "--role", "aggregator"]) == 0
    public = Recipient("aggregator", (tmp_path / "aggregator.pem").read_bytes())
    key = sealing(tmp_path, (public,)).key_for("rec-1", "")
    sealed_segment(tmp_path, key, [rows_chunk(0, 80)])
    wrong = uri(token, pin="softhsm2.conf")
    assert main(["verify", str(tmp_path / "rec-1"), "--keys", wrong]) == 14
    assert "pin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"of": "absent"}, "no such token"),
        ({"name": "absent"}, "no such key"),
        ({"name": "other-curve"}, "not a P-256 key"),
        ({"pin": "no-pin"}, "PIN cannot be read"),
        ({"pin": "softhsm2.conf"}, "pin incorrect|pin len range"),
    ],
)
def test_a_token_that_cannot_be_used_is_named_with_the_reason(
    token: Path, options: dict[str, str], why: str
) -> None:
    with pytest.raises(SecurityError, match=why) as caught:
        TokenKeyStore(parse_uri(uri(token, **options))).public_pem()
    assert caught.value.code == "security.token"
    assert PIN not in str(caught.value.as_dict())


def test_a_library_that_is_none_is_named(token: Path) -> None:
    text = uri(token).replace(MODULE, str(token / "pin"))
    with pytest.raises(SecurityError, match="Check module-path") as caught:
        TokenKeyStore(parse_uri(text)).public_pem()
    assert caught.value.code == "security.token"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pkcs11:", "token is missing"),
        ("pkcs11:token=a;object=b", "module-path is missing"),
        ("pkcs11:token=a;object=b;slot=1?module-path=/x", "slot is not known"),
        ("pkcs11:token?module-path=/x", "'token' has no value"),
    ],
)
def test_an_uri_that_names_no_key_is_refused(text: str, why: str) -> None:
    with pytest.raises(SecurityError, match=why) as caught:
        store_at(text)
    assert caught.value.code == "security.token_uri"


def test_messages_of_the_library_open_with_nothing_but_the_agreement() -> None:
    """RFC 9180 as written here against the library's own, which is the oracle."""
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def agree(peer: bytes) -> bytes:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), peer)
        return private.exchange(ec.ECDH(), public)

    for size in (0, 1, 32, 1000):
        message = SUITE.encrypt(bytes(size), private.public_key(), b"info")
        assert open_message(message, point, agree, b"info") == bytes(size)
        with pytest.raises(InvalidTag):
            open_message(message, point, agree, b"Info")
    with pytest.raises(ValueError, match="too short"):
        open_message(message[:70], point, agree, b"info")
