"""A TPM that many ask at once, that is busy, that does not answer; and what passes on the wires to it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security import tpm as door
from brainforge_edge.security.agreement import point_of
from brainforge_edge.security.tpm import Tpm
from brainforge_edge.security.tpmfile import TpmKey, parse_uri
from brainforge_edge.security.tpmstore import TpmKeyStore, make_tpm_pair
from brainforge_edge.storage.files import SystemDisk
from tests.swtpm import Relay, SoftTpm, software_tpm

RETRY, OBJECT_MEMORY, TESTING, FAILURE = 0x922, 0x902, 0x90A, 0x101
OTHER = ec.generate_private_key(ec.SECP256R1())
PEER = point_of(OTHER.public_key())
PROVE = """
import sys
from brainforge_edge.security.keystore import held_at
sys.stdin.read(1)
for _ in range(5):
    held_at(sys.argv[1]).prove()
"""


@pytest.fixture
def tpm() -> Iterator[SoftTpm]:
    with software_tpm() as made:
        yield made


def key_in(tpm: SoftTpm, folder: Path) -> TpmKey:
    return Tpm(tpm.tcti, folder, SystemClock()).make_key((), "none was made")


def agreed(tcti: str, folder: Path, key: TpmKey, *, patience_s: float = 60.0) -> bytes:
    asked = Tpm(tcti, folder, SystemClock(), patience_s=patience_s)
    return asked.agree(key, PEER, "the key was not used")


def shared(key: TpmKey) -> bytes:
    return OTHER.exchange(ec.ECDH(), key.public_key())


def until_threads_wait(n: int) -> None:
    until = time.monotonic() + 60
    while sum(thread.name == "tpm" for thread in threading.enumerate()) != n:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_four_processes_at_once_are_all_served(tpm: SoftTpm, tmp_path: Path) -> None:
    """As at a start: each device's process recovers its journals."""
    make_tpm_pair(
        tmp_path, "box", tpm.tcti, (7,), write=SystemDisk().write_new, clock=SystemClock()
    )
    command = [sys.executable, "-c", PROVE, tpm.uri(tmp_path / "box.tpm")]
    asking = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    for process in asking:
        assert process.stdin is not None
        process.stdin.write(b"!")
        process.stdin.flush()
    said = [process.communicate(timeout=100)[1].decode() for process in asking]
    assert [process.returncode for process in asking] == [0] * 4, said


def test_a_busy_tpm_is_asked_again(tpm: SoftTpm, tmp_path: Path) -> None:
    key = key_in(tpm, tmp_path)
    with Relay(tpm) as relay:
        relay.busy.extend([RETRY] * 8 + [OBJECT_MEMORY] * 2 + [TESTING])
        assert agreed(relay.tcti, tmp_path, key) == shared(key)
        assert not relay.busy


def test_a_tpm_that_stays_busy_is_named_in_bounded_time(tpm: SoftTpm, tmp_path: Path) -> None:
    key = key_in(tpm, tmp_path)
    with Relay(tpm) as relay:
        relay.busy.extend([OBJECT_MEMORY] * 10_000)
        with pytest.raises(SecurityError) as caught:
            agreed(relay.tcti, tmp_path, key, patience_s=0.5)
    assert (caught.value.code, caught.value.transient) == ("security.tpm_busy", True)
    assert "/dev/tpmrm0" in caught.value.remedy
    assert agreed(tpm.tcti, tmp_path, key) == shared(key)


def test_a_tpm_that_failed_is_named_in_its_own_words(tpm: SoftTpm, tmp_path: Path) -> None:
    key = key_in(tpm, tmp_path)
    with Relay(tpm) as relay:
        relay.busy.append(FAILURE)
        with pytest.raises(SecurityError, match="TPM failure") as caught:
            agreed(relay.tcti, tmp_path, key)
    assert caught.value.code == "security.tpm_refused"
    assert relay.tcti in caught.value.why


def test_a_tpm_that_hangs_costs_a_bounded_time_and_one_thread(tpm: SoftTpm, tmp_path: Path) -> None:
    key = key_in(tpm, tmp_path)
    tpm.signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            with pytest.raises(SecurityError, match="does not answer") as caught:
                agreed(tpm.tcti, tmp_path, key, patience_s=0.2)
            assert caught.value.code == "security.tpm_busy"
        until_threads_wait(1)
    finally:
        tpm.signal(signal.SIGCONT)
    until_threads_wait(0)
    assert agreed(tpm.tcti, tmp_path, key) == shared(key)


@pytest.mark.parametrize("is_veiled", [True, False], ids=["as it is", "without encryption"])
def test_the_secret_does_not_pass_in_the_clear(
    tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_veiled: bool
) -> None:
    """Whoever listens on the wires to the chip; without the encryption the search finds it."""
    if not is_veiled:
        monkeypatch.setattr(door, "_veil", lambda tss, *_: tss.ESYS_TR.NONE)
    key = key_in(tpm, tmp_path)
    with Relay(tpm) as relay:
        secret = agreed(relay.tcti, tmp_path, key)
        assert secret == shared(key)
        assert len(relay.passed) > 500
        assert (secret in relay.passed) is not is_veiled


def test_nothing_stays_in_the_tpm(tpm: SoftTpm, tmp_path: Path) -> None:
    """It has room for three keys; who fails in the middle takes his out, too."""
    folder = tmp_path / "keys"
    folder.mkdir()
    make_tpm_pair(folder, "box", tpm.tcti, (7,), write=SystemDisk().write_new, clock=SystemClock())
    store = TpmKeyStore(parse_uri(tpm.uri(folder / "box.tpm")), SystemClock())
    tpm.extend(7)
    for _ in range(5):
        with pytest.raises(SecurityError, match="firmware"):
            store.prove()
    assert tpm.held() == []
