"""A private key in a TPM 2 (swtpm): it opens what was wrapped for it, on its board and with its boot chain alone."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tpm2_pytss as tss

from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security import tpm as door
from brainforge_edge.security import tpmfile
from brainforge_edge.security.keystore import store_at
from brainforge_edge.security.wrap import KeyEntry, Recipient, make_data_key, wrap
from tests.swtpm import SoftTpm, software_tpm
from tests.unit.recorder_material import LOG_ID, seeded
from tests.unit.sealed_material import account, rows_chunk, sealed_segment, sealing

KEY = make_data_key(seeded(3))


@pytest.fixture(scope="module")
def board() -> Iterator[SoftTpm]:
    """A TPM that no test changes."""
    with software_tpm() as tpm:
        yield tpm


@pytest.fixture
def tpm() -> Iterator[SoftTpm]:
    """A TPM of the test's own."""
    with software_tpm() as made:
        yield made


def made(tpm: SoftTpm, folder: Path, *pcrs: int, role: str = "box") -> str:
    """The URI of a new key."""
    bound = [word for pcr in pcrs for word in ("--pcr", str(pcr))]
    command = ["keys", "make", str(folder), "--role", role, "--tpm", "--tcti", tpm.tcti, *bound]
    assert main(command) == 0
    return tpm.uri(folder / f"{role}.tpm")


def entry_for(pem: Path) -> KeyEntry:
    recipient = Recipient("box", pem.read_bytes())
    return KeyEntry(KEY.key_id.hex(), "", "helmet", wrap(KEY, LOG_ID, (recipient,)))


def refused(uri: str, entry: KeyEntry) -> SecurityError:
    with pytest.raises(SecurityError) as caught:
        store_at(uri).opened(entry, LOG_ID)
    return caught.value


def test_what_was_wrapped_for_it_opens(board: SoftTpm, tmp_path: Path) -> None:
    uri = made(board, tmp_path)
    store = store_at(uri)
    assert store.opened(entry_for(tmp_path / "box.pem"), LOG_ID) == KEY
    assert (tmp_path / "box.tpm").stat().st_mode & 0o777 == 0o600


def test_what_was_wrapped_for_others_or_changed_does_not_open(
    board: SoftTpm, tmp_path: Path
) -> None:
    uri = made(board, tmp_path)
    (wrapped,) = entry_for(tmp_path / "box.pem").wrapped
    stranger = type(wrapped)("00" * 8, "box", wrapped.sealed)
    assert store_at(uri).opened(KeyEntry(KEY.key_id.hex(), "", "x", (stranger,)), LOG_ID) is None
    point, sealed = wrapped.sealed[:65], wrapped.sealed[65:]
    for changed in (point[:-1] + b"\0", b"\0" * 65), (point, sealed[:-1] + b"\0"):
        other = type(wrapped)(wrapped.to, wrapped.role, b"".join(changed))
        entry = KeyEntry(KEY.key_id.hex(), "", "x", (other,))
        assert refused(uri, entry).code == "security.wrapped_damaged"


def test_a_recording_is_read_with_the_key_in_the_tpm(
    board: SoftTpm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    uri = made(board, keys)
    public = Recipient("box", (keys / "box.pem").read_bytes())
    sealed_segment(tmp_path, sealing(tmp_path, (public,)).key_for("rec-1", ""), [rows_chunk(0, 80)])
    assert main(["verify", str(tmp_path / "rec-1"), "--keys", uri]) == 0
    assert "sealed and no key" not in capsys.readouterr().out
    assert account(tmp_path, keys).unopened == 1  # no file there opens it


def test_the_tpm_of_another_board_refuses(board: SoftTpm, tpm: SoftTpm, tmp_path: Path) -> None:
    """The disk, and with it the key's file, went into another box."""
    made(board, tmp_path)
    error = refused(tpm.uri(tmp_path / "box.tpm"), entry_for(tmp_path / "box.pem"))
    assert error.code == "security.tpm_foreign"
    assert "made in another TPM" in error.why
    assert "recovery key" in error.remedy


def test_a_tpm_that_was_cleared_refuses(tpm: SoftTpm, tmp_path: Path) -> None:
    uri, entry = made(tpm, tmp_path), entry_for(tmp_path / "box.pem")
    with tpm.connected() as other:
        other.clear(tss.ESYS_TR.LOCKOUT)
    error = refused(uri, entry)
    assert error.code == "security.tpm_foreign"
    assert "was cleared" in error.why


def test_a_key_outlives_its_machine_being_switched_off(tpm: SoftTpm, tmp_path: Path) -> None:
    store = store_at(made(tpm, tmp_path, 7))
    tpm.stop()
    tpm.start()
    assert store.opened(entry_for(tmp_path / "box.pem"), LOG_ID) == KEY


def test_a_changed_boot_chain_is_refused_and_the_old_one_is_not(
    tpm: SoftTpm, tmp_path: Path
) -> None:
    uri, entry = made(tpm, tmp_path, 7, 11), entry_for(tmp_path / "box.pem")
    free = made(tpm, tmp_path / "free")
    tpm.extend(8)
    assert store_at(uri).opened(entry, LOG_ID) == KEY  # none that it is bound to
    tpm.extend(7)
    error = refused(uri, entry)
    assert error.code == "security.tpm_policy"
    assert "firmware or what boots was changed" in error.why
    assert "recovery key" in error.remedy
    assert store_at(free).opened(entry_for(tmp_path / "free" / "box.pem"), LOG_ID) == KEY
    tpm.stop()
    tpm.start()
    assert store_at(uri).opened(entry, LOG_ID) == KEY


def test_a_tpm_that_is_not_there_is_named_and_asked_only_for_what_is_wrapped_for_it(
    tpm: SoftTpm, tmp_path: Path
) -> None:
    uri, entry = made(tpm, tmp_path), entry_for(tmp_path / "box.pem")
    tpm.stop()
    error = refused(uri, entry)
    assert (error.code, error.transient) == ("security.tpm_absent", True)
    assert tpm.tcti in error.why
    assert store_at(uri).opened(KeyEntry(KEY.key_id.hex(), "", "x", ()), LOG_ID) is None


def test_a_tpm_that_appears_a_moment_late_is_waited_for(
    tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a start of the machine its driver may be behind."""
    monkeypatch.setattr(door, "_APPEARS_S", 60.0)  # a program takes longer than a chip
    store = store_at(made(tpm, tmp_path))
    entry = entry_for(tmp_path / "box.pem")
    tpm.stop()
    late = threading.Timer(0.3, tpm.start)
    late.start()
    try:
        assert store.opened(entry, LOG_ID) == KEY
    finally:
        late.join()


def test_wrong_guesses_at_other_keys_lock_nobody_out(tpm: SoftTpm, tmp_path: Path) -> None:
    uri = made(tpm, tmp_path)
    tpm.lock_out()
    assert store_at(uri).opened(entry_for(tmp_path / "box.pem"), LOG_ID) == KEY


def test_a_key_that_a_lockout_reaches_names_it(
    tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other programs make them: not exempt."""
    monkeypatch.setattr(tpmfile, "NO_DA", 0)
    uri = made(tpm, tmp_path)
    tpm.lock_out()
    error = refused(uri, entry_for(tmp_path / "box.pem"))
    assert (error.code, error.transient) == ("security.tpm_lockout", True)


def test_an_owner_with_a_password_is_named(tpm: SoftTpm, tmp_path: Path) -> None:
    uri = made(tpm, tmp_path)
    with tpm.connected() as other:
        other.hierarchy_change_auth(tss.ESYS_TR.OWNER, b"secret")
    assert refused(uri, entry_for(tmp_path / "box.pem")).code == "security.tpm_owner"
