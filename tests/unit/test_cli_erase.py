"""`erase request`, `sign`, `run` and `cloud erase`: from an order to the signed list of what was done."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import ExitStatus, SecurityError
from brainforge_edge.security.erasure import DOMAIN, Erasure, SignedErasure
from brainforge_edge.security.sign import Signed, read_verifier
from tests.unit.erasure_material import (
    NODE,
    PEOPLE,
    RECORDING,
    Session,
    deliver,
    info_of,
    pairs,
    session,
)
from tests.unit.recorder_faulty_disk import UnsyncedDisk

Out = pytest.CaptureFixture[str]
SIGNERS = ("fleet", "clinician", "box")


def answer(out: Out) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.readouterr().out)
    return found


@pytest.fixture
def site(tmp_path: Path, capsys: Out) -> Session:
    """A box that knows two signers, an aggregator, and a session of four at both."""
    for who in SIGNERS:
        assert main(["keys", "make", str(tmp_path / who), "--role", "signer"]) == 0
    capsys.readouterr()
    (tmp_path / "edge.toml").write_text(
        f'[node]\nid = "{NODE}"\nroot = "{tmp_path / "box"}"\n[orders]\nsigners = [\n'
        f'{{role = "fleet", key = "{tmp_path / "fleet/signer.pem"}"}},\n'
        f'{{role = "clinician", key = "{tmp_path / "clinician/signer.pem"}"}},\n]\n',
        encoding="utf-8",
    )
    made = session(
        tmp_path / "box", tmp_path / "private", pairs(tmp_path / "private"), UnsyncedDisk()
    )
    deliver(made, tmp_path / "cloud")
    return made


def requested(
    site: Session, capsys: Out, *more: str, signers: tuple[str, ...] = SIGNERS[:2]
) -> str:
    root = site.root.parent
    arguments = [
        "--participant",
        "p2",
        "--node",
        NODE,
        "--aggregator",
        "--reason",
        "consent withdrawn",
    ]
    assert main(["erase", "request", *arguments, *more]) == 0
    order = root / "order.json"
    order.write_text(capsys.readouterr().out, encoding="utf-8")
    for who in signers:
        assert main(["erase", "sign", str(order), "--key", str(root / who / "signer.key")]) == 0
        said = capsys.readouterr().out
        assert "signed by" in said
    return str(order)


def run_here(site: Session, order: str, *more: str) -> int:
    config = str(site.root.parent / "edge.toml")
    return main(["erase", "run", order, "--config", config, *more])


def export(site: Session, to: Path, capsys: Out) -> list[Path]:
    arguments = ["export", str(site.folder), "--format", "csv", "--output", str(to)]
    assert main([*arguments, "--keys", str(site.private / "recovery"), "--json"]) == 0
    said = answer(capsys)
    assert said["noted"]
    return [Path(name) for name in said["files"]]


def test_from_request_to_the_signed_list_at_box_and_aggregator(
    tmp_path: Path, site: Session, capsys: Out
) -> None:
    before = export(site, tmp_path / "out", capsys)
    assert len(before) == len(PEOPLE)
    kept = {path.name: path.read_bytes() for path in before if "p2" not in path.name}
    order = requested(site, capsys)
    signer = ["--signer", str(tmp_path / "box" / "signer.key"), "--json"]
    assert run_here(site, order, *signer) == 0
    done = answer(capsys)
    assert [(each["kind"], each["recording"]) for each in done["erased"]] == [
        ("key", RECORDING), ("export", RECORDING),
    ]  # fmt: skip
    assert sorted(each["kind"] for each in done["not_reached"]) == ["markers"]
    signed = msgspec.json.decode(Path(done["file"]).read_bytes(), type=SignedErasure)
    public = read_verifier((tmp_path / "box" / "signer.pem").read_bytes(), "box")
    body = signed.body.encode()
    assert public.is_genuine(DOMAIN, Signed(body, signed.signer, signed.signature))
    assert msgspec.json.decode(body, type=Erasure).participant == "p2"
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(kept)

    arguments = [
        "cloud", "erase", order, "--root", str(tmp_path / "cloud"),
        "--fleet", str(tmp_path / "fleet" / "signer.pem"),
        "--clinician", str(tmp_path / "clinician" / "signer.pem"),
    ]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert site.keys["p2"].key_id.hex() in said
    assert "not signed: no --signer was given" in said
    assert "backups" in said
    assert main(arguments) == ExitStatus.SECURITY

    assert main(["verify", str(site.folder), "--keys", str(site.private / "box")]) == 0
    assert "4 chunks were erased" in capsys.readouterr().out
    again = tmp_path / "again"
    arguments = ["export", str(site.folder), "--format", "csv", "--output", str(again)]
    assert main([*arguments, "--keys", str(site.private / "box")]) == 0
    said = capsys.readouterr().err
    assert f"stream {info_of('p2').stream_id} of {RECORDING} was not exported" in said
    assert {path.name: path.read_bytes() for path in again.iterdir()} == kept
    only = ["--stream", info_of("p2").stream_id, "--keys", str(site.private / "box")]
    assert main([*arguments, *only]) == ExitStatus.SECURITY
    assert main(["keys", "list", str(site.folder)]) == 0
    assert f"nobody: erased by order {done['order']}" in capsys.readouterr().out


def test_one_signature_is_not_enough_and_an_order_runs_once(site: Session, capsys: Out) -> None:
    order = requested(site, capsys, signers=("fleet",))
    assert run_here(site, order) == ExitStatus.SECURITY
    assert "has none of a clinician key" in capsys.readouterr().err
    key = str(site.root.parent / "fleet" / "signer.key")
    assert main(["erase", "sign", order, "--key", key]) == ExitStatus.SECURITY
    assert "has signed it already" in capsys.readouterr().err
    order = requested(site, capsys)
    assert run_here(site, order) == 0
    capsys.readouterr()
    assert run_here(site, order) == ExitStatus.SECURITY
    assert "was carried out here already" in capsys.readouterr().err


def test_a_box_that_knows_no_signers_carries_nothing_out(site: Session, capsys: Out) -> None:
    order = requested(site, capsys)
    config = site.root.parent / "edge.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.partition("[orders]")[0], encoding="utf-8")
    assert run_here(site, order) == ExitStatus.SECURITY
    assert "no key of a fleet and no key of a clinician is named" in capsys.readouterr().err
    config.write_text(text.replace("clinician/signer.pem", "fleet/signer.pem"), encoding="utf-8")
    for verb in (
        ["config", "check", str(config)],
        ["erase", "run", order, "--config", str(config)],
    ):
        assert main(verb) == ExitStatus.SECURITY
        assert "one key is named twice" in capsys.readouterr().err
    config.write_text(text.replace("clinician/signer.pem", "absent.pem"), encoding="utf-8")
    assert main(["config", "check", str(config)]) == ExitStatus.SECURITY
    assert "absent.pem" in capsys.readouterr().err


def test_a_request_that_names_nobody_or_no_box_is_refused(capsys: Out) -> None:
    assert main(["erase", "request", "--node", NODE, "--reason", "x"]) == ExitStatus.SECURITY
    assert "names neither a participant nor recordings" in capsys.readouterr().err
    assert main(["erase", "request", "--participant", "p2", "--reason", "x"]) == ExitStatus.USAGE
    arguments = ["--participant", "Anna Smith", "--node", NODE, "--reason", "x"]
    assert main(["erase", "request", *arguments]) == ExitStatus.CONFIG


def test_a_file_that_is_no_order_is_said_to_be_none(site: Session, capsys: Out) -> None:
    path = site.root.parent / "order.json"
    path.write_text("{}")
    assert run_here(site, str(path)) == ExitStatus.SECURITY
    assert "this is no order" in capsys.readouterr().err
    key = str(site.root.parent / "fleet" / "signer.key")
    assert main(["erase", "sign", str(path), "--key", key]) == ExitStatus.SECURITY


# ---- what is shown to whoever signs --------------------------------------------------------------


def test_all_of_an_order_is_shown_before_it_is_signed(
    site: Session, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Path(requested(site, capsys, "--recording", RECORDING, signers=()))
    said = json.loads(json.loads(order.read_text(encoding="utf-8"))["body"])
    before, shown = order.read_bytes(), []

    def not_yet(*_: object) -> None:
        shown.append(capsys.readouterr().out)
        raise SecurityError("stopped", "stopped", why="here", remedy="none")

    monkeypatch.setattr("brainforge_edge.security.order.signed_by", not_yet)
    key = str(site.root.parent / "fleet" / "signer.key")
    assert main(["erase", "sign", str(order), "--key", key]) == ExitStatus.SECURITY
    when = [
        datetime.fromtimestamp(said[name] // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name in ("issued_utc_ns", "expires_utc_ns")
    ]
    assert [line.split(None, 1) for line in shown[0].splitlines()][1:] == [
        ["participant", "p2"],
        ["recording", RECORDING],
        ["node", NODE],
        ["node", "_aggregator"],
        ["log", "id        (all of these nodes)"],
        ["reason", "consent withdrawn"],
        ["issued", when[0]],
        ["expires", when[1]],
        ["counter", str(said["counter"])],
    ]
    assert order.read_bytes() == before


def test_an_order_cannot_change_what_the_terminal_shows_of_it(site: Session, capsys: Out) -> None:
    reason = "x\r\x1b[1A\x1b[2Kreason  withdrawn\u202e"
    order = Path(requested(site, capsys, signers=()))
    body = json.loads(json.loads(order.read_text(encoding="utf-8"))["body"])
    body |= {"reason": reason, "recordings": ["rec-1\nnode  bed-9"]}
    order.write_text(json.dumps({"body": json.dumps(body)}), encoding="utf-8")
    key = str(site.root.parent / "fleet" / "signer.key")
    assert main(["erase", "sign", str(order), "--key", key, "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["ok"]
    assert "\\r\\x1b[1A\\x1b[2Kreason  withdrawn\\u202e" in out.err
    assert "recording     rec-1\\nnode  bed-9\n" in out.err
    assert "\x1b" not in out.err


def test_an_order_that_is_not_a_good_one_is_not_signed(site: Session, capsys: Out) -> None:
    order = Path(requested(site, capsys, signers=()))
    body = json.loads(json.loads(order.read_text(encoding="utf-8"))["body"])
    key = str(site.root.parent / "fleet" / "signer.key")
    for fields, words in (
        ({"participant": ""}, "names neither a participant nor recordings"),
        ({"reason": "x" * 501}, "501 characters"),
        ({"counter": 2**64 + 5}, "this is no order"),
    ):
        order.write_text(json.dumps({"body": json.dumps(body | fields)}), encoding="utf-8")
        before = order.read_bytes()
        assert main(["erase", "sign", str(order), "--key", key]) == ExitStatus.SECURITY
        assert words in capsys.readouterr().err
        assert order.read_bytes() == before
    arguments = ["--participant", "p2", "--node", NODE, "--reason", "x", "--log-id", "zz"]
    assert main(["erase", "request", *arguments]) == ExitStatus.SECURITY
    assert "'zz' is no log id" in capsys.readouterr().err


# ---- what is given on the command line -----------------------------------------------------------


def run_at_cloud(site: Session, order: str, cloud: str = "cloud", **keys: str) -> int:
    root = site.root.parent
    fleet, clinician = (
        keys.get(who, str(root / who / "signer.pem")) for who in ("fleet", "clinician")
    )
    arguments = ["--root", str(root / cloud), "--fleet", fleet, "--clinician", clinician]
    return main(["cloud", "erase", order, *arguments])


def test_a_root_that_is_no_store_is_refused_and_left_as_it_is(site: Session, capsys: Out) -> None:
    """The order was not begun there: else it would pass for one that was carried out."""
    root = site.root.parent
    order = requested(site, capsys)
    (root / "empty").mkdir()
    (root / "garbled").mkdir()
    (root / "garbled" / "catalogue.sqlite").write_bytes(b"no catalogue" * 100)
    assert run_at_cloud(site, order, "absent") == ExitStatus.CLOUD
    assert "there is no store in" in capsys.readouterr().err
    assert run_at_cloud(site, order, "empty") == ExitStatus.CLOUD
    capsys.readouterr()
    assert run_at_cloud(site, order, "garbled") == ExitStatus.STORAGE
    assert "catalogue.sqlite" in capsys.readouterr().err
    assert not (root / "absent").exists()
    assert list((root / "empty").iterdir()) == []
    assert [path.name for path in (root / "garbled").iterdir()] == ["catalogue.sqlite"]
    assert run_at_cloud(site, order) == 0


def test_a_pack_that_is_missing_is_listed_and_the_rest_is_erased(
    site: Session, capsys: Out
) -> None:
    order = requested(site, capsys)
    cloud = site.root.parent / "cloud"
    log_id = site.log_id.hex()
    key = cloud / "keys" / log_id / f"{site.keys['p2'].key_id.hex()}.json"
    packs = [path for path in (cloud / "store" / log_id).rglob("*") if path.is_file()]
    assert packs
    for path in packs:
        path.unlink()
    assert run_at_cloud(site, order) == 0
    said = capsys.readouterr().out
    assert "unclear" in said
    assert "no such file or directory" in said
    assert not key.exists()


@pytest.mark.parametrize("what", ["absent", "fifo", "folder", "text", "other half"])
def test_a_key_that_cannot_be_used_is_refused_before_anything_is_done(
    site: Session, capsys: Out, what: str
) -> None:
    root = site.root.parent
    bad = root / "bad"
    order = requested(site, capsys)
    if what == "fifo":
        os.mkfifo(bad, 0o600)
    elif what == "folder":
        bad.mkdir()
    elif what == "text":
        bad.write_text("no key")
        bad.chmod(0o600)
    public = private = str(bad)
    if what == "other half":
        public, private = str(root / "fleet/signer.key"), str(root / "fleet/signer.pem")
        os.chmod(private, 0o600)  # noqa: PTH101
    config = root / "edge.toml"
    text = config.read_text(encoding="utf-8")
    (root / "e.toml").write_text(
        text.replace(str(root / "clinician/signer.pem"), public), encoding="utf-8"
    )
    given = ExitStatus.USAGE if what == "fifo" else ExitStatus.SECURITY  # named on the command line
    for verb, status in (
        (["erase", "run", order, "--config", str(root / "e.toml")], ExitStatus.SECURITY),
        (["erase", "run", order, "--config", str(config), "--signer", private], given),
        (["erase", "sign", order, "--key", private], given),
        (["config", "check", str(root / "e.toml")], ExitStatus.SECURITY),
    ):
        assert main(verb) == status, verb
        err = capsys.readouterr().err
        assert Path(private).name in err or Path(public).name in err
    assert run_at_cloud(site, order, clinician=public) == given
    assert not (site.root / "orders.json").exists()
    assert not (root / "cloud" / "orders.json").exists()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("folder", "it is no regular file"),
        ("absent", "no such file"),
        ("x" * 300, "file name too long"),
    ],
)
def test_an_order_that_is_no_file_is_refused_and_not_waited_for(
    site: Session, capsys: Out, what: str, words: str
) -> None:
    order = site.root.parent / what
    if what == "folder":
        order.mkdir()
    key = str(site.root.parent / "fleet" / "signer.key")
    assert main(["erase", "sign", str(order), "--key", key]) == ExitStatus.SECURITY
    assert words in capsys.readouterr().err
    assert run_here(site, str(order)) == ExitStatus.SECURITY
    assert run_at_cloud(site, str(order)) == ExitStatus.SECURITY


def test_a_pipe_is_refused_as_an_order_and_not_waited_for(site: Session, capsys: Out) -> None:
    pipe = site.root.parent / "pipe"
    os.mkfifo(pipe)
    key = str(site.root.parent / "fleet" / "signer.key")
    assert main(["erase", "sign", str(pipe), "--key", key]) == ExitStatus.USAGE
    assert "is a pipe" in capsys.readouterr().err
    assert run_here(site, str(pipe)) == run_at_cloud(site, str(pipe)) == ExitStatus.USAGE
