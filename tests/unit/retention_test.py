"""Data goes on proof alone: what may go, what stays, and that the account is right after an end anywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core.config import RetentionConfig
from brainforge_edge.core.wire import Attestation
from brainforge_edge.fleet import retention as retention_module
from brainforge_edge.recorder import freed as freed_module
from brainforge_edge.recorder import proofs as proofs_module
from brainforge_edge.recorder.attested import AttestedSegment
from brainforge_edge.recorder.catalog import rebuilt_streams
from brainforge_edge.recorder.chain import CHAIN_FILE, FREED_FILE, ChainEntry
from brainforge_edge.recorder.segment import next_ordinal
from brainforge_edge.recorder.verify import Span
from brainforge_edge.security.sign import Verifier
from brainforge_edge.storage.lines import append_line
from tests.unit.retention_material import (
    EEG,
    NOW,
    SIGNER,
    STRANGER,
    Stand,
    signed,
    stand_with_chain,
)

ALL = ["0001.seg", "0002.seg", "0003.seg", "0004.seg"]
ON = RetentionConfig(enabled=True)


def test_what_was_attested_long_enough_ago_goes_and_the_account_says_so(tmp_path: Path) -> None:
    stand = stand_with_chain(tmp_path)
    for entry in (stand.chain[1], stand.chain[2]):
        stand.attest(entry)
    outcome = stand.retention().once()
    assert not outcome.errors
    assert [entry.segment for entry in outcome.freed["rec-1"]] == ["0002.seg", "0003.seg"]
    assert stand.here == ["0001.seg", "0004.seg"]
    account = stand.account()
    assert account.is_clean, account
    (stream,) = account.streams
    assert [line.segment for line in stream.freed] == ["0002.seg", "0003.seg"]
    assert [(r.first, r.end) for line in stream.freed for r in line.held] == [(80, 160), (180, 260)]
    assert stream.spans == [Span(1, 0, 80), Span(1, 260, 340)]
    assert stand.freed[0].freed_utc_ns == NOW


def test_freed_names_are_not_used_again_and_numbers_not_given_out_twice(tmp_path: Path) -> None:
    stand = stand_with_chain(tmp_path)
    stand.attest_all()
    stand.retention().once()
    assert stand.here == []
    assert next_ordinal(stand.folder / EEG.stream_id, stand.disk) == 5
    assert rebuilt_streams(stand.recordings, stand.disk) == {
        EEG.stream_id: {"number": 1, "incarnation": 1}
    }
    assert stand.account().is_clean


Spoil = Callable[[Stand, ChainEntry], None]


def _young(stand: Stand, entry: ChainEntry) -> None:
    stand.attest(entry, age_days=6.9)


def _from_the_future(stand: Stand, entry: ChainEntry) -> None:
    stand.attest(entry, age_days=-30)


def _unsigned(stand: Stand, entry: ChainEntry) -> None:
    _line(stand, entry, msgspec.structs.replace(signed(entry), signature=b""))


def _forged(stand: Stand, entry: ChainEntry) -> None:
    bare = signed(entry, signer=STRANGER)
    _line(stand, entry, msgspec.structs.replace(bare, signer=SIGNER.id))


def _stranger(stand: Stand, entry: ChainEntry) -> None:
    stand.attest(entry, signer=STRANGER)


def _other_domain(stand: Stand, entry: ChainEntry) -> None:
    stand.attest(entry, domain="receipt")


def _other_box(stand: Stand, entry: ChainEntry) -> None:
    stand.attest(entry, log_id=bytes(16))


def _other_segment(stand: Stand, entry: ChainEntry) -> None:
    _line(stand, entry, signed(stand.chain[1]))


def _other_digest(stand: Stand, entry: ChainEntry) -> None:
    stand.attest(entry, sha256=bytes(32))


def _other_size(stand: Stand, entry: ChainEntry) -> None:
    stand.attest(entry, size=entry.size - 1)


def _garbled(stand: Stand, entry: ChainEntry) -> None:
    _line(stand, entry, SIGNER.sign("attestation", b"\xc1"))


def _line(stand: Stand, entry: ChainEntry, made: Any) -> None:
    line = AttestedSegment(entry.segment_id, made)
    append_line(stand.folder / "attested", msgspec.json.encode(line), stand.disk)


@pytest.mark.parametrize(
    "spoil",
    [_young, _from_the_future, _unsigned, _forged, _stranger, _other_domain, _other_box,
     _other_segment, _other_digest, _other_size, _garbled],
)  # fmt: skip
def test_an_attestation_that_does_not_prove_this_segment_frees_nothing(
    tmp_path: Path, spoil: Spoil
) -> None:
    stand = stand_with_chain(tmp_path)
    spoil(stand, stand.chain[0])
    assert stand.retention().once().freed == {}
    assert stand.here == ALL
    assert not (stand.folder / FREED_FILE).exists()


def test_without_the_signature_check_the_forged_one_would_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = stand_with_chain(tmp_path)
    _forged(stand, stand.chain[0])
    monkeypatch.setattr(Verifier, "is_genuine", lambda *_: True)
    assert stand.retention().once().freed
    assert stand.here == ALL[1:]


@pytest.mark.parametrize("spoil", [_other_box, _other_digest, _other_size, _other_segment])
def test_without_the_comparison_with_the_chain_they_would_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil
) -> None:
    def believes(made: Any, entry: ChainEntry, *, log_id: bytes, verifier: Verifier) -> Any:
        is_genuine = verifier.is_genuine("attestation", made)
        return msgspec.msgpack.decode(made.body, type=Attestation) if is_genuine else None  # fmt: skip

    stand = stand_with_chain(tmp_path)
    spoil(stand, stand.chain[0])
    monkeypatch.setattr(retention_module, "attestation_of", believes)
    monkeypatch.setattr(freed_module, "attestation_of", believes)
    monkeypatch.setattr(proofs_module, "attestation_of", believes)
    monkeypatch.setattr(freed_module, "_fault_of_rows", lambda *_: "")
    assert stand.retention().once().freed


def _off(stand: Stand) -> retention_module.Retention:
    return stand.retention(config=RetentionConfig())


def _open(stand: Stand) -> retention_module.Retention:
    card = stand.folder / "recording.json"
    card.write_bytes(card.read_bytes().replace(b'"closed":true', b'"closed":false'))
    return stand.retention()


def _journal_left(stand: Stand) -> retention_module.Retention:
    (stand.folder / "dev.journal").mkdir()
    return stand.retention()


def _no_clock(stand: Stand) -> retention_module.Retention:
    return stand.retention(utc_ns=None)


def _no_key(stand: Stand) -> retention_module.Retention:
    return stand.retention(has_verifier=False)


def _broken_chain(stand: Stand) -> retention_module.Retention:
    path = stand.folder / CHAIN_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))
    return stand.retention()


@pytest.mark.parametrize("spoiled", [_off, _open, _journal_left, _no_clock, _no_key, _broken_chain])
def test_nothing_goes_from_a_box_or_recording_that_is_not_ready_for_it(
    tmp_path: Path, spoiled: Callable[[Stand], retention_module.Retention]
) -> None:
    stand = stand_with_chain(tmp_path)
    stand.attest_all()
    assert spoiled(stand).once().freed == {}
    assert stand.here == ALL


def test_a_file_whose_bytes_are_not_the_chains_stays_and_is_told_each_time(tmp_path: Path) -> None:
    stand = stand_with_chain(tmp_path)
    stand.attest_all()
    path = stand.path(stand.chain[1])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    retention = stand.retention()
    for _ in range(2):
        outcome = retention.once()
        assert [error.code for error in outcome.errors] == ["storage.changed"]
        assert str(path) in str(outcome.errors[0])
    assert stand.here == ["0002.seg"]
    assert len(stand.freed) == 3


def test_a_full_disk_takes_the_oldest_that_are_attested_until_it_is_not_full(
    tmp_path: Path,
) -> None:
    stand = stand_with_chain(tmp_path)
    newer = stand_with_chain(tmp_path, n=2, name="rec-2", seed=2)
    card = newer.folder / "recording.json"
    card.write_bytes(card.read_bytes().replace(str(NOW).encode(), str(NOW + 1).encode()))
    for each in (newer, stand):
        each.attest_all(age_days=1)
    retention = stand.retention(is_full=lambda: len(stand.here) + len(newer.here) > 1)
    outcome = retention.once()
    assert list(outcome.freed) == ["rec-1", "rec-2"]
    assert (stand.here, newer.here) == ([], ["0002.seg"])
    assert retention.once().freed == {}


def test_on_a_full_disk_what_is_not_attested_stays(tmp_path: Path) -> None:
    stand = stand_with_chain(tmp_path)
    stand.attest(stand.chain[3], age_days=0)
    stand.retention(is_full=lambda: True, utc_ns=None).once()
    assert stand.here == ALL[:3]
    assert stand.freed[0].freed_utc_ns is None


def test_attestations_that_were_set_aside_meanwhile_free_nothing_more(tmp_path: Path) -> None:
    stand = stand_with_chain(tmp_path)
    stand.attest_all(age_days=1)

    def restored() -> bool:
        """The uplink hears of a restored store just before the second one goes."""
        if len(stand.here) == 3 and (stand.folder / "attested").exists():
            (stand.folder / "attested").rename(stand.folder / "attested.1")
        return True

    stand.retention(is_full=restored).once()
    assert stand.here == ALL[1:]
    assert stand.account().is_clean  # the line holds its evidence itself
