"""A person's request with a token beside a renewal: neither takes the other's key."""

from pathlib import Path

import pytest

from brainforge_edge.core.errors import SecurityError
from tests.unit.enrolment_material import DAY, NOW, authority, box, enrolled

LATER = NOW + 5 * DAY


class Lost(Exception):
    """The answer did not come."""


def test_a_renewal_leaves_a_persons_request_its_key(tmp_path: Path) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    token = site.invite("bed-1", now=LATER)
    asked = made.request(token)
    answer, _ = site.sign(asked, now=LATER)
    made.now(None, lambda r: site.sign(r, now=LATER)[0])
    done = made.install(answer, token)
    assert made.certificate() == done.certificate  # which fits its key
    assert made.request(token) != asked  # nothing of it is left


def test_a_persons_request_leaves_a_renewal_its_key_until_it_is_answered(tmp_path: Path) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    sent: list[bytes] = []

    def lost(request: bytes) -> bytes:
        sent.append(request)
        raise Lost

    with pytest.raises(Lost):
        made.now(None, lost)
    token = site.invite("bed-1", now=LATER)
    asked = made.request(token)
    with pytest.raises(Lost):
        made.now(None, lost)
    assert sent[0] == sent[1]
    by_renewal = site.sign(sent[0], now=LATER)[0]
    made.install(by_renewal, None)
    done = made.install(site.sign(asked, now=LATER)[0], token)
    assert made.certificate() == done.certificate
    with pytest.raises(SecurityError) as late:  # the person's stands
        made.install(by_renewal, None)
    assert late.value.code == "security.answer_of_another_key"
    assert made.certificate() == done.certificate
    names = {path.name for path in (tmp_path / "bed-1").iterdir()}
    assert names - {".node.key.lock"} == {"ca.pem", "node.key", "node.pem"}


def test_who_asks_twice_by_files_gets_the_request_that_may_be_signed_already(
    tmp_path: Path,
) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    for token in (site.invite("bed-1", now=LATER), None):
        asked = made.request(token)
        answer = site.sign(asked, now=LATER)[0]
        assert made.request(token) == asked
        assert made.install(answer, token).certificate == made.certificate()


def test_it_finishes_a_persons_half_installed_answer_beside_a_renewal(tmp_path: Path) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    folder = tmp_path / "bed-1"
    made.request(None)
    token = site.invite("bed-1", now=LATER)
    answer = site.sign(made.request(token), now=LATER)[0]
    key = (folder / "node.key.token.next").read_bytes()
    made.install(answer, token)
    (folder / "node.key").rename(folder / "node.key.token.next")
    made = box(tmp_path)
    made.finish()
    assert (folder / "node.key").read_bytes() == key
    assert made.certificate()
