"""The site's keys that come with a certificate: who may say them, where they go, what they never replace."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.core.errors import SecurityError, StorageError
from brainforge_edge.fleet.sitekeys import Placed
from brainforge_edge.security.enrolment import Answer
from brainforge_edge.security.sitekeys import ROLES, SiteKeys
from tests.unit.enrolment_material import DAY, NOW, authority, box, enrolled, public_keys


def signing(site: Authority) -> Callable[[bytes], bytes]:
    return lambda request: site.sign(request, now=NOW + 5 * DAY)[0]


def placed(root: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (root / "bed-1-keys").glob("*.pem")}


def test_an_enrolment_brings_the_sites_keys_to_where_the_configuration_names_them(
    tmp_path: Path,
) -> None:
    site, keys = authority(tmp_path), public_keys(tmp_path / "made")
    site.publish(keys)
    token = site.invite("bed-1", now=NOW)
    done = box(tmp_path).now(token, lambda r: site.sign(r, now=NOW)[0])
    assert done.keys == dict.fromkeys(ROLES, Placed.WRITTEN)
    assert placed(tmp_path) == keys
    inode = (tmp_path / "bed-1-keys" / "signer.pem").stat().st_ino
    done = box(tmp_path).now(None, signing(site))
    assert done.keys == dict.fromkeys(ROLES, Placed.SAME)
    assert (tmp_path / "bed-1-keys" / "signer.pem").stat().st_ino == inode


def test_the_same_key_in_another_spelling_is_the_same(tmp_path: Path) -> None:
    site, keys = authority(tmp_path), public_keys(tmp_path / "made")
    site.publish(keys)
    (tmp_path / "bed-1-keys").mkdir()
    spelled = b"the recovery key of our site\n" + keys["recovery"].replace(b"\n", b"\r\n")
    (tmp_path / "bed-1-keys" / "recovery.pem").write_bytes(spelled)
    enrolled(tmp_path, site)
    assert placed(tmp_path)["recovery"] == spelled


def test_a_renewal_brings_a_missing_key_and_replaces_none(tmp_path: Path) -> None:
    site, first = authority(tmp_path), public_keys(tmp_path / "first")
    site.publish(first)
    made = enrolled(tmp_path, site)
    (tmp_path / "bed-1-keys" / "signer.pem").unlink()
    second = public_keys(tmp_path / "second")
    site.publish(second)
    done = made.now(None, signing(site))
    assert done.keys == {
        "aggregator": Placed.DIFFERS,
        "recovery": Placed.DIFFERS,
        "signer": Placed.WRITTEN,
    }
    assert placed(tmp_path) == {**first, "signer": second["signer"]}
    assert made.certificate() == done.certificate  # the renewal itself went on


def test_a_renewal_does_not_replace_a_file_that_is_no_key_either(tmp_path: Path) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    site.publish(public_keys(tmp_path / "made"))
    (tmp_path / "bed-1-keys").mkdir()
    (tmp_path / "bed-1-keys" / "recovery.pem").write_bytes(b"\xff torn")
    assert made.now(None, signing(site)).keys["recovery"] is Placed.DIFFERS
    assert placed(tmp_path)["recovery"] == b"\xff torn"


def test_who_enrols_with_a_token_takes_the_sites_new_keys_and_is_told(tmp_path: Path) -> None:
    site = authority(tmp_path)
    site.publish(public_keys(tmp_path / "first"))
    enrolled(tmp_path, site)
    second = public_keys(tmp_path / "second")
    site.publish(second)
    token = site.invite("bed-1", now=NOW)
    done = box(tmp_path).now(token, lambda r: site.sign(r, now=NOW)[0])
    assert done.keys == dict.fromkeys(ROLES, Placed.REPLACED)
    assert placed(tmp_path) == second


def test_the_answer_to_a_renewal_installed_with_a_token_at_hand_replaces_no_key(
    tmp_path: Path,
) -> None:
    site = authority(tmp_path)
    site.publish(public_keys(tmp_path / "first"))
    made = enrolled(tmp_path, site)
    site.publish(public_keys(tmp_path / "second"))
    answer = signing(site)(made.request(None))
    done = made.install(answer, site.invite("bed-1", now=NOW))
    assert set(done.keys.values()) == {Placed.DIFFERS}


@pytest.mark.parametrize("is_renewal", [False, True])
def test_a_key_that_was_put_in_or_taken_out_on_the_way_is_found_out(
    tmp_path: Path, *, is_renewal: bool
) -> None:
    site, keys = authority(tmp_path), public_keys(tmp_path / "made")
    site.publish({"signer": keys["signer"]})
    made = enrolled(tmp_path, site) if is_renewal else box(tmp_path)
    token = None if is_renewal else site.invite("bed-1", now=NOW)
    answer = (
        msgspec.json.decode(signing(site)(made.request(token)), type=Answer)
        if is_renewal
        else (msgspec.json.decode(site.sign(made.request(token), now=NOW)[0], type=Answer))
    )
    other = public_keys(tmp_path / "other")
    changes: list[dict[str, object]] = [
        {"keys": SiteKeys()},
        {"keys": SiteKeys(signer=other["signer"].decode())},
        {"keys": SiteKeys(signer=answer.keys.signer, recovery=other["recovery"].decode())},
        {"keys": SiteKeys(recovery=answer.keys.signer)},
        {"format": 1},
        {"format": 3},
        {"proof": b""},
    ]
    before = placed(tmp_path)
    for change in changes:
        changed = msgspec.json.encode(msgspec.structs.replace(answer, **change))
        with pytest.raises(SecurityError) as caught:
            made.install(changed, token)
        assert caught.value.code in {"security.answer_unproven", "security.answer_unreadable"}
        assert placed(tmp_path) == before
    made.install(msgspec.json.encode(answer), token)


def test_an_answer_of_before_there_were_keys_is_still_read(tmp_path: Path) -> None:
    """Format 1 of a renewal had no proof but the certificate itself."""
    site = authority(tmp_path)
    site.publish(public_keys(tmp_path / "made"))
    made = enrolled(tmp_path, site)
    answer = msgspec.json.decode(signing(site)(made.request(None)))
    old = {key: answer[key] for key in ("certificate", "ca")}
    done = made.install(msgspec.json.encode({**old, "proof": "", "format": 1}), None)
    assert done.keys == {}
    assert made.certificate().not_valid_after_utc == NOW + 12 * DAY


def test_a_renewal_goes_on_where_a_key_cannot_be_written_and_an_enrolment_does_not(
    tmp_path: Path,
) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    site.publish(public_keys(tmp_path / "made"))
    (tmp_path / "bed-1-keys").touch()  # a file where the folder should be
    done = made.now(None, signing(site))
    assert isinstance(done.error, StorageError)
    assert made.certificate().not_valid_after_utc == NOW + 12 * DAY
    token = site.invite("bed-1", now=NOW)
    with pytest.raises(StorageError):
        made.now(token, lambda r: site.sign(r, now=NOW)[0])
    (tmp_path / "bed-1-keys").unlink()
    made.now(token, lambda r: site.sign(r, now=NOW)[0])  # its token is not lost
    assert set(placed(tmp_path)) == set(ROLES)


def test_only_public_keys_of_the_right_kind_are_published(tmp_path: Path) -> None:
    site, keys = authority(tmp_path), public_keys(tmp_path / "made")
    secret = (tmp_path / "made" / "recovery.key").read_bytes()
    for role, pem in (
        ("recovery", secret),
        ("recovery", keys["signer"]),
        ("signer", keys["recovery"]),
        ("aggregator", b"\xff"),
        ("signer", b""),
    ):
        with pytest.raises(SecurityError):
            site.publish({**keys, role: pem})
        assert site.published() == SiteKeys()
