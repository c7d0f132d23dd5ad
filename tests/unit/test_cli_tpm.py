"""`keys make --tpm`, `config check` and `--keys tpm2:…`: what they make, prove and refuse, with a real TPM (swtpm)."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.recorder.sealing import KEYS_FOLDER
from brainforge_edge.security.agreement import HeldKeyStore, HeldKeyUnusable
from brainforge_edge.security.wrap import Recipient
from tests.swtpm import SoftTpm, software_tpm
from tests.unit.sealed_material import pair, rows_chunk, sealed_segment, sealing

Out = pytest.CaptureFixture[str]


@pytest.fixture
def tpm() -> Iterator[SoftTpm]:
    with software_tpm() as made:
        yield made


def make(tpm: SoftTpm, folder: Path, *more: str) -> int:
    return main(["keys", "make", str(folder), "--tpm", "--tcti", tpm.tcti, *more])


def code(out: Out) -> str:
    return str(json.loads(out.readouterr().out.splitlines()[-1])["error"]["code"])


def unopened(where: str, keys: str, out: Out) -> int:
    """Chunks of a recording that these keys do not open."""
    out.readouterr()
    assert main(["verify", where, "--keys", keys, "--json"]) == 0
    (recording,) = json.loads(out.readouterr().out)["recordings"]
    return sum(stream["unopened"] for stream in recording["streams"])


def configured(folder: Path, **seal: object) -> str:
    """A configuration with `[seal]`; its path."""
    path = folder / "edge.toml"
    lines = [f"{key} = {json.dumps(str(value))}" for key, value in seal.items()]
    node = f'[node]\nid = "box"\nroot = "{folder}"\n'
    path.write_text(node + "[seal]\nenabled = true\n" + "\n".join(lines) + "\n")
    return str(path)


def recording(tpm: SoftTpm, root: Path) -> tuple[str, str]:
    """A sealed recording of a box whose key is in the TPM; its folder, and the key's URI."""
    keys = root / KEYS_FOLDER
    assert make(tpm, keys, "--role", "box") == 0
    (root / "recordings").mkdir()
    own = Recipient("box", (keys / "box.pem").read_bytes())
    key = sealing(root / "recordings", (own,)).key_for("rec-1", "p1")
    sealed_segment(root / "recordings", key, [rows_chunk(0, 80), rows_chunk(80, 20)])
    return str(root / "recordings" / "rec-1"), tpm.uri(keys / "box.tpm")


def test_make_writes_a_pair_and_never_over_another(
    tpm: SoftTpm, tmp_path: Path, capsys: Out
) -> None:
    assert make(tpm, tmp_path / "new", "--role", "box", "--pcr", "11", "--pcr", "7") == 0
    assert "of use to this TPM alone" in capsys.readouterr().out
    path = tmp_path / "new" / "box.tpm"
    before = path.read_bytes()
    assert json.loads(before)["pcrs"] == [7, 11]
    assert path.stat().st_mode & 0o777 == 0o600
    assert make(tpm, tmp_path / "new", "--role", "box", "--json") == ExitStatus.SECURITY
    assert code(capsys) == "security.pair_exists"
    assert main(["keys", "make", str(tmp_path / "new"), "--role", "box"]) == ExitStatus.SECURITY
    assert path.read_bytes() == before


def test_its_public_half_is_written_again_without_the_tpm(tpm: SoftTpm, tmp_path: Path) -> None:
    assert make(tpm, tmp_path, "--role", "box") == 0
    tpm.stop()
    uri = tpm.uri(tmp_path / "box.tpm")
    assert main(["keys", "public", uri, str(tmp_path / "again"), "--role", "box"]) == 0
    assert (tmp_path / "again" / "box.pem").read_bytes() == (tmp_path / "box.pem").read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["--role", "box", "--pcr", "7"],
        ["--role", "box", "--tcti", "device:/dev/tpm0"],
        ["--role", "signer", "--tpm"],
        ["--role", "box", "--tpm", "--pcr", "24"],
    ],
)
def test_words_that_do_not_go_together_are_refused(tmp_path: Path, words: list[str]) -> None:
    assert main(["keys", "make", str(tmp_path / "new"), *words]) == ExitStatus.USAGE
    assert not (tmp_path / "new").exists()


def test_without_a_tpm_nothing_is_made(tpm: SoftTpm, tmp_path: Path, capsys: Out) -> None:
    tpm.stop()
    assert make(tpm, tmp_path, "--role", "box", "--json") == ExitStatus.SECURITY
    assert code(capsys) == "security.tpm_absent"
    assert main(["keys", "make", str(tmp_path), "--role", "box", "--tpm", "--tcti", "cmd:x"]) == 14
    assert list(tmp_path.iterdir()) == []


def test_a_register_that_the_tpm_does_not_keep_is_refused(
    tpm: SoftTpm, tmp_path: Path, capsys: Out
) -> None:
    """A policy over it would hold whatever is booted."""
    with tpm.connected() as owner:
        owner.pcr_allocate("sha256:0,1,2,3,4,5,6,17")
    tpm.stop()
    tpm.start()
    assert make(tpm, tmp_path, "--role", "box", "--pcr", "4", "--pcr", "7", "--json") == 14
    answer = json.loads(capsys.readouterr().out)["error"]
    assert answer["code"] == "security.tpm_pcr"
    assert "no SHA-256 of PCR 7" in answer["why"]
    assert list(tmp_path.iterdir()) == []
    assert make(tpm, tmp_path, "--role", "box", "--pcr", "4") == 0


def test_without_the_extra_it_is_named_and_all_else_works(
    tpm: SoftTpm, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, uri = recording(tpm, tmp_path)
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    assert main(["verify", where, "--keys", uri, "--json"]) == ExitStatus.SECURITY
    assert code(capsys) == "security.tpm_package"
    assert main(["verify", where]) == 0
    assert "sealed and no key" in capsys.readouterr().out
    assert main(["keys", "list", where]) == 0


def test_what_can_be_used_and_belongs_together_is_in_order(
    tpm: SoftTpm, tmp_path: Path, capsys: Out
) -> None:
    assert make(tpm, tmp_path, "--role", "box", "--pcr", "7") == 0
    uri, pem = tpm.uri(tmp_path / "box.tpm"), tmp_path / "box.pem"
    assert main(["config", "check", configured(tmp_path, box=pem, token=uri)]) == 0
    assert "name seal.recovery" in capsys.readouterr().out
    recovery = tmp_path / "away" / "recovery.pem"
    pair(recovery.parent, "recovery")
    file = configured(tmp_path, box=pem, token=uri, recovery=recovery)
    assert main(["config", "check", file]) == 0
    assert "seal.recovery" not in capsys.readouterr().out


def test_a_key_that_cannot_be_used_is_found_beforehand_and_keeps_no_box_from_starting(
    tpm: SoftTpm, tmp_path: Path, capsys: Out
) -> None:
    assert make(tpm, tmp_path, "--role", "box", "--pcr", "7") == 0
    box_pem = tmp_path / "box.pem"
    file = configured(tmp_path, box=box_pem, token=tpm.uri(tmp_path / "box.tpm"))
    capsys.readouterr()
    tpm.extend(7)
    assert main(["config", "check", file, "--json"]) == ExitStatus.SECURITY
    assert code(capsys) == "security.tpm_policy"
    tpm.stop()
    assert main(["config", "check", file, "--json"]) == ExitStatus.SECURITY
    assert code(capsys) == "security.tpm_absent"
    assert main(["config", "check", file, "--start"]) == 0


def test_a_public_half_of_another_key_is_refused(tpm: SoftTpm, tmp_path: Path, capsys: Out) -> None:
    assert make(tpm, tmp_path / "one", "--role", "box") == 0
    other = pair(tmp_path / "two", "box")
    pem, uri = tmp_path / "two" / "box.pem", tpm.uri(tmp_path / "one" / "box.tpm")
    capsys.readouterr()
    assert main(["config", "check", configured(tmp_path, box=pem, token=uri), "--json"]) == 14
    answer = json.loads(capsys.readouterr().out)["error"]
    assert answer["code"] == "security.not_its_public_half"
    assert other.id in answer["why"]


@pytest.mark.parametrize(
    ("seal", "reason"),
    [
        ({"token": "tpm2:/a"}, "security.no_box_key"),
        ({"token": "/a/folder", "box": "/a.pem"}, "security.token_uri"),
        ({"token": "tpm2:/a?tcti=cmd:x", "box": "/a.pem"}, "security.tpm_uri"),
    ],
)
def test_a_configuration_that_could_never_work_keeps_a_box_from_starting(
    tmp_path: Path, capsys: Out, seal: dict[str, str], reason: str
) -> None:
    file = configured(tmp_path, **seal)
    assert main(["config", "check", file, "--start", "--json"]) == ExitStatus.SECURITY
    assert code(capsys) == reason


def test_a_recording_is_not_called_damaged_because_the_tpm_is_away(
    tpm: SoftTpm, tmp_path: Path, capsys: Out
) -> None:
    where, uri = recording(tpm, tmp_path)
    out = str(tmp_path / "out")
    export = ["export", where, "--keys", uri, "--format", "csv", "--output", out]
    tpm.stop()
    for command in (["verify", where, "--keys", uri], [*export, "--partial"]):
        capsys.readouterr()
        assert main([*command, "--json"]) == ExitStatus.SECURITY
        assert code(capsys) == "security.tpm_absent"
    tpm.start()
    assert unopened(where, uri, capsys) == 0
    assert main(export) == 0


def test_older_recordings_are_opened_by_the_new_key_and_newer_ones_by_another(
    tpm: SoftTpm, tmp_path: Path, capsys: Out
) -> None:
    """To a TPM later, and from one to the next."""
    keys = tmp_path / KEYS_FOLDER
    keys.mkdir()
    (tmp_path / "recordings").mkdir()
    key = sealing(tmp_path / "recordings", (pair(keys, "box"),)).key_for("rec-1", "p1")
    sealed_segment(tmp_path / "recordings", key, [rows_chunk(0, 80)])
    where, held, away = str(tmp_path / "recordings" / "rec-1"), tmp_path / "tpm", tmp_path / "away"
    assert make(tpm, held, "--role", "box") == 0
    pair(away, "recovery")
    rewrap = ["keys", "rewrap", where, "--role"]
    assert main([*rewrap, "box", "--for", str(held / "box.pem")]) == 0
    (keys / "box.key").unlink()
    uri = tpm.uri(held / "box.tpm")
    assert unopened(where, uri, capsys) == 0
    assert main([*rewrap, "recovery", "--for", str(away / "recovery.pem"), "--keys", uri]) == 0
    tpm.stop()
    assert unopened(where, str(away), capsys) == 0


def test_halves_that_do_not_belong_together_are_named() -> None:
    class Mixed(HeldKeyStore):
        """As two objects of one name in a token."""

        def _key(self) -> ec.EllipticCurvePublicKey:
            return ec.derive_private_key(5, ec.SECP256R1()).public_key()

        def _agree(self, peer: bytes) -> bytes:
            other = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), peer)
            return ec.derive_private_key(6, ec.SECP256R1()).exchange(ec.ECDH(), other)

    with pytest.raises(HeldKeyUnusable) as caught:
        Mixed().prove()
    assert caught.value.code == "security.halves_differ"
