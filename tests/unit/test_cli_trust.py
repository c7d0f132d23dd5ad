"""From nothing to an enrolled box by commands alone; what `config check` and the commands refuse."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.core import config
from brainforge_edge.core.errors import ConfigError, ExitStatus
from brainforge_edge.fleet.enrol import Enrolment
from brainforge_edge.storage.files import SystemDisk
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed

Out = pytest.CaptureFixture[str]


def answer(out: Out) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.readouterr().out)
    return found


def edge(root: Path, name: str = "bed-1") -> Path:
    tls = root / "tls"
    path = root / f"{name}.toml"
    path.write_text(
        f'[node]\nid = "{name}"\n[uplink]\nhost = "broker.example"\nport = 8883\n'
        f'[uplink.tls]\nca = "{tls}/ca.pem"\ncertificate = "{tls}/node.pem"\nkey = "{tls}/node.key"\n',
        encoding="utf-8",
    )
    return path


def enrol(root: Path, capsys: Out) -> Path:
    """As docs/trust.md says; the box's configuration."""
    site, box = str(root / "site"), str(edge(root))
    for words in (
        ["cloud", "ca", "init", "--root", site],
        ["cloud", "ca", "issue", "broker", "--host", "broker.example", "--root", site, "--out", f"{site}/broker"],
        ["cloud", "ca", "issue", "aggregator", "--root", site, "--out", f"{site}/tls"],
        ["cloud", "ca", "token", "bed-1", "--root", site],
    ):  # fmt: skip
        assert main(words) == 0, words
    token = root / "token"
    token.write_text(capsys.readouterr().out.splitlines()[-1] + "\n", encoding="utf-8")
    for words in (
        ["enrol", "request", "--config", box, "--token-file", str(token), "--out", f"{root}/bed-1.request"],
        ["cloud", "ca", "sign", f"{root}/bed-1.request", "--root", site, "--out", f"{root}/bed-1.answer"],
        ["enrol", "install", f"{root}/bed-1.answer", "--config", box, "--token-file", str(token)],
        ["config", "check", box],
    ):  # fmt: skip
        assert main(words) == 0, words
    capsys.readouterr()
    return Path(box)


def test_from_nothing_to_an_enrolled_box_and_its_renewal(tmp_path: Path, capsys: Out) -> None:
    box, site = enrol(tmp_path, capsys), str(tmp_path / "site")
    assert main(["enrol", "status", "--config", str(box), "--json"]) == 0
    before = answer(capsys)
    assert (before["name"], before["renewal"]) == ("bed-1", "not_yet")
    for words in (
        ["enrol", "request", "--config", str(box), "--renew", "--out", f"{tmp_path}/again.request"],
        ["cloud", "ca", "sign", f"{tmp_path}/again.request", "--root", site, "--out", f"{tmp_path}/again.answer"],
        ["enrol", "install", f"{tmp_path}/again.answer", "--config", str(box)],
    ):  # fmt: skip
        assert main(words) == 0, words
    capsys.readouterr()
    assert main(["cloud", "ca", "list", "--root", site, "--json"]) == 0
    rows = answer(capsys)["certificates"]
    assert [row["role"] for row in rows] == ["broker", "aggregator", "node", "node"]
    assert main(["cloud", "ca", "revoke", before["serial"], "--root", site, "--json"]) == 0
    assert answer(capsys)["revoked"] == [before["serial"]]
    assert main(["cloud", "ca", "list", "--root", site]) == 0
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "valid", "valid", "revoked", "valid",
    ]  # fmt: skip


def test_the_brokers_files_name_where_they_will_lie(tmp_path: Path, capsys: Out) -> None:
    enrol(tmp_path, capsys)
    site = tmp_path / "site"
    words = ["cloud", "broker-config", "--root", str(site), "--at", "/etc/mosquitto/bf"]
    assert main([*words, "--for", "mosquitto"]) == 0
    conf = (site / "broker" / "mosquitto.conf").read_text(encoding="utf-8")
    assert "crlfile /etc/mosquitto/bf/revoked.pem" in conf
    assert "max_packet_size 2097152" in conf
    assert (site / "broker" / "acl").read_text(encoding="utf-8").splitlines() == [
        "user _aggregator",
        *(f"topic write bf/v1/+/{t}" for t in ("ack/#", "desired", "job/+")),
        "topic read bf/v1/#",
        *(
            f"pattern write bf/v1/%u/{t}"
            for t in (
                "chunk/#",
                "keys",
                "hello",
                "claim",
                "live/#",
                "ev/#",
                "reported",
                "job/+/status",
            )
        ),
        *(f"pattern read bf/v1/%u/{t}" for t in ("ack/#", "desired", "job/+")),
    ]
    assert main([*words, "--for", "nats"]) == 0
    conf = (site / "broker" / "nats-server.conf").read_text(encoding="utf-8")
    assert 'user: "CN=bed-1"' in conf
    assert main(["cloud", "ca", "revoke", "bed-1", "--root", str(site)]) == 0
    assert main([*words, "--for", "nats"]) == 0
    conf = (site / "broker" / "nats-server.conf").read_text(encoding="utf-8")
    assert "bed-1" not in conf
    assert 'user: "CN=_aggregator"' in conf
    assert main(["cloud", "ca", "revoke", "_aggregator", "--root", str(site)]) == 0
    assert main([*words, "--for", "mosquitto"]) == 0  # it has a revocation list
    assert main([*words, "--for", "nats"]) == ExitStatus.SECURITY
    assert "would take until it expires" in capsys.readouterr().err


def test_a_broker_without_a_certificate_is_told_where_to_get_one(
    tmp_path: Path, capsys: Out
) -> None:
    assert main(["cloud", "ca", "init", "--root", str(tmp_path)]) == 0
    words = ["cloud", "broker-config", "--root", str(tmp_path), "--for", "mosquitto"]
    assert main(words) == ExitStatus.SECURITY
    assert "cloud ca issue broker" in capsys.readouterr().err


def test_config_check_refuses_a_certificate_of_another_name_and_one_that_is_not_there(
    tmp_path: Path, capsys: Out
) -> None:
    assert main(["config", "check", str(edge(tmp_path)), "--json"]) == ExitStatus.SECURITY
    assert answer(capsys)["error"]["code"] == "security.no_certificate"
    enrol(tmp_path, capsys)
    other = edge(tmp_path, "bed-2")
    assert main(["config", "check", str(other), "--json"]) == ExitStatus.SECURITY
    error = answer(capsys)["error"]
    assert error["code"] == "security.certificate_name"
    assert "'bed-1'" in error["why"]
    (tmp_path / "tls" / "node.key").chmod(0o640)
    assert main(["config", "check", str(edge(tmp_path))]) == ExitStatus.SECURITY
    assert "chmod 600" in capsys.readouterr().err


def test_a_certificate_that_a_power_cut_left_without_its_key_keeps_no_box_from_recording(
    tmp_path: Path, capsys: Out
) -> None:
    """The agent puts the key in its place, if only it runs."""
    box, site = enrol(tmp_path, capsys), tmp_path / "site"
    edge_config = config.load(box)
    authority = Authority(site, disk=SystemDisk(), random=os.urandom)
    made = Enrolment(edge_config, FaultyDisk(watched={"rename"}, at=3))
    with pytest.raises(Killed):
        made.now(None, lambda request: authority.sign(request, now=datetime.now(UTC))[0])
    FaultyDisk.bury()
    assert main(["config", "check", str(box), "--json"]) == ExitStatus.SECURITY
    assert answer(capsys)["error"]["code"] == "security.key_mismatch"
    assert main(["config", "check", str(box), "--start"]) == 0
    Enrolment(edge_config, SystemDisk()).finish()
    assert main(["config", "check", str(box)]) == 0


def test_a_part_of_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"uplink\.tls\.key is missing"):
        config.parse('[node]\nid = "b"\n[uplink.tls]\nca = "/a"\ncertificate = "/b"\n')


def test_a_token_is_not_used_up_for_an_answer_that_cannot_be_written(
    tmp_path: Path, capsys: Out
) -> None:
    site, box = str(tmp_path / "site"), str(edge(tmp_path))
    assert main(["cloud", "ca", "init", "--root", site]) == 0
    assert main(["cloud", "ca", "token", "bed-1", "--root", site, "--json"]) == 0
    token = tmp_path / "token"
    token.write_text(
        json.loads(capsys.readouterr().out.splitlines()[-1])["token"], encoding="utf-8"
    )
    request = str(tmp_path / "r")
    words = ["enrol", "request", "--config", box, "--token-file", str(token), "--out", request]
    assert main(words) == 0
    taken = tmp_path / "taken"
    taken.touch()
    sign = ["cloud", "ca", "sign", request, "--root", site, "--out"]
    assert main([*sign, str(taken)]) == ExitStatus.STORAGE
    capsys.readouterr()
    assert main([*sign, str(tmp_path / "answer"), "--json"]) == 0
    made = answer(capsys)["serial"]
    assert main([*sign, str(tmp_path / "again"), "--json"]) == 0  # of the same request
    assert answer(capsys)["serial"] == made
    assert main([*words[:-1], f"{request}-1"]) == 0  # the same, as long as its answer may come
    assert Path(f"{request}-1").read_bytes() == Path(request).read_bytes()
    for kept in tmp_path.rglob("*.token.request"):
        kept.unlink()
    assert main([*words[:-1], f"{request}-2"]) == 0
    assert main(["cloud", "ca", "sign", f"{request}-2", *sign[4:], str(tmp_path / "b")]) == 14
    assert "is good for one request" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["enrol", "request", "--config", "{box}", "--out", "{root}/r"],
        ["enrol", "request", "--config", "{box}", "--renew", "--token-file", "t", "--out", "{root}/r"],
        ["cloud", "ca", "issue", "broker", "--root", "{root}", "--out", "{root}/o"],
        ["cloud", "ca", "issue", "aggregator", "--host", "h", "--root", "{root}", "--out", "{root}/o"],
        ["cloud", "run", "--root", "{root}", "--tls-ca", "ca.pem"],
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(tmp_path: Path, words: list[str], capsys: Out) -> None:
    box = edge(tmp_path)
    assert main([w.format(box=box, root=tmp_path) for w in words]) == ExitStatus.USAGE
    assert "Give" in capsys.readouterr().err


def test_a_box_whose_configuration_knows_no_tls_cannot_be_enrolled(
    tmp_path: Path, capsys: Out
) -> None:
    box = tmp_path / "edge.toml"
    box.write_text('[node]\nid = "bed-1"\n', encoding="utf-8")
    assert main(["enrol", "status", "--config", str(box)]) == ExitStatus.CONFIG
    assert "[uplink.tls]" in capsys.readouterr().err
