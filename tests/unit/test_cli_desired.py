"""`cloud desired` and `cloud job`: what an operator makes, signs, sets and sees."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.cloud.store.outbound import Outbound
from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.core.wire import JobStatus, Reported, Untaken
from brainforge_edge.security.erasure import Erased, Erasure, NotReached, signed_erasure
from tests.unit.sealed_material import DISK

Out = pytest.CaptureFixture[str]


class Desk:
    """Folders of keys, and an aggregator's root."""

    def __init__(self, root: Path, capsys: Out) -> None:
        self.root = root
        self.cloud = root / "cloud"
        self.capsys = capsys
        for name, role in (("fleet", "signer"), ("clinician", "signer"), ("new", "aggregator")):
            assert self.run("keys", "make", root / name, "--role", role) == 0
        capsys.readouterr()

    def run(self, *words: object) -> int:
        return main([str(word) for word in words])

    def said(self, *words: object) -> dict[str, Any]:
        assert self.run(*words, "--json") == 0
        said: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return said

    def refusal(self, status: ExitStatus, *words: object) -> str:
        assert self.run(*words) == status
        return self.capsys.readouterr().err

    def key(self, who: str) -> Path:
        return self.root / who / "signer.key"

    def requested(self, *words: object) -> Path:
        path = self.root / "document.json"
        assert self.run(*words) == 0
        path.write_text(self.capsys.readouterr().out, encoding="utf-8")
        return path

    def state(self, *more: object, nodes: tuple[str, ...] = ("bed-1", "bed-2")) -> Path:
        named = [word for node in nodes for word in ("--node", node)]
        return self.requested("cloud", "desired", "request", *named, *more)

    def order(self, *more: object) -> Path:
        return self.requested(
            "erase", "request", "--participant", "p2", "--node", "bed-1", "--aggregator",
            "--reason", "withdrawn", *more,
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path, capsys: Out) -> Desk:
    return Desk(tmp_path, capsys)


def test_a_state_is_made_signed_set_and_shown_as_boxes_say(desk: Desk) -> None:
    pem = desk.root / "new" / "aggregator.pem"
    path = desk.state("--aggregator", pem, "--signer", desk.root / "clinician" / "signer.pem")
    assert desk.run("cloud", "desired", "sign", path, "--key", desk.key("fleet")) == 0
    shown = desk.capsys.readouterr().out
    for word in (
        "node          bed-1",
        "node          bed-2",
        "aggregator    ",
        "receipts by   ",
        "expires",
    ):
        assert word in shown
    assert "recovery      (as the box is configured)" in shown
    assert "1 of 1 signature\n" in shown
    said = desk.said("cloud", "desired", "set", path, "--root", desk.cloud)
    assert said["nodes"] == ["bed-1", "bed-2"]
    outbound = Outbound(desk.cloud, DISK)
    error = {"code": "security.order_expired", "what": "x", "why": "y", "remedy": "z"}
    for node, version, untaken in (
        ("bed-1", said["version"], None),
        ("bed-2", None, Untaken("id", error)),
    ):
        reported = Reported(node, version, said["id"], 10**18, 3, None, untaken)
        outbound.keep_reported(reported, msgspec.json.encode(reported))
    first, second = desk.said("cloud", "desired", "show", "--root", desk.cloud)["nodes"]
    assert (first["set"], first["stands"], first["keys_left"]) == (said["version"],) * 2 + (3,)
    assert first["since"].startswith("2001-09-09")
    assert (second["stands"], second["error"], second["why"]) == (None, error["code"], "y")
    assert desk.run("cloud", "desired", "show", "--root", desk.cloud) == 0
    assert "security.order_expired" in desk.capsys.readouterr().out


def test_what_is_not_signed_or_older_or_no_state_is_not_set(desk: Desk) -> None:
    path = desk.state("--counter", 7)
    setting = ("cloud", "desired", "set", path, "--root", desk.cloud)
    assert "nobody has signed it" in desk.refusal(ExitStatus.CLOUD, *setting)
    assert not desk.cloud.exists()
    desk.said("cloud", "desired", "sign", path, "--key", desk.key("fleet"))
    desk.said(*setting)
    path = desk.state("--counter", 6, nodes=("bed-3", "bed-2"))
    desk.said("cloud", "desired", "sign", path, "--key", desk.key("fleet"))
    assert "bed-2 has one of 7 already" in desk.refusal(ExitStatus.CLOUD, *setting)
    assert Outbound(desk.cloud, DISK).nodes() == ["bed-1", "bed-2"]
    desk.order()
    assert "of the kind 'erase'" in desk.refusal(ExitStatus.SECURITY, *setting)
    sign = ("cloud", "desired", "sign", path, "--key", desk.key("fleet"))
    assert "of the kind 'erase'" in desk.refusal(ExitStatus.SECURITY, *sign)


def test_a_state_with_what_is_no_key_or_for_what_is_no_node_is_not_made(desk: Desk) -> None:
    make = ("cloud", "desired", "request", "--node")
    signer = desk.root / "fleet" / "signer.pem"
    said = desk.refusal(ExitStatus.SECURITY, *make, "bed-1", "--aggregator", signer)
    assert "not a P-256 key" in said
    pem = desk.root / "new" / "aggregator.pem"
    assert "another kind" in desk.refusal(ExitStatus.SECURITY, *make, "bed-1", "--signer", pem)
    assert "'Bed 1'" in desk.refusal(ExitStatus.CONFIG, *make, "Bed 1")
    assert desk.run(*make[:-1]) == ExitStatus.USAGE


def test_a_job_is_added_and_listed_by_what_each_box_says(desk: Desk) -> None:
    path = desk.order()
    adding = ("cloud", "job", "add", path, "--root", desk.cloud)
    assert "nobody has signed it" in desk.refusal(ExitStatus.CLOUD, *adding)
    for who in ("fleet", "clinician"):
        desk.said("erase", "sign", path, "--key", desk.key(who))
    job = desk.said(*adding)["job"]

    def listed() -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = desk.said("cloud", "job", "list", "--root", desk.cloud)["jobs"]
        assert {each["job"] for each in jobs} == {job}
        return jobs

    assert [each["state"] for each in listed()] == ["unanswered", "by `cloud erase`"]
    erasure = Erasure(
        order=job, participant="p2", reason="withdrawn", node="bed-1", done_utc_ns=1,
        erased=(Erased("key", "rec-1", "k"),), not_reached=(NotReached("plain", "r", "w", "y"),) * 2,
    )  # fmt: skip
    text = msgspec.json.encode(signed_erasure(erasure, None)).decode()
    status = JobStatus("bed-1", job, "done", 10**18, None, text)
    Outbound(desk.cloud, DISK).keep_status(status, msgspec.json.encode(status))
    found = listed()[0]
    assert (found["state"], found["erased"], found["not_reached"]) == ("done", 1, 2)
    assert found["list"] == text
    assert desk.run("cloud", "job", "list", "--root", desk.cloud) == 0
    assert "done" in desk.capsys.readouterr().out
    (desk.cloud / "jobs" / "broken.json").write_text("{")
    jobs = desk.said("cloud", "job", "list", "--root", desk.cloud)["jobs"]
    assert jobs[-1]["state"] == "unreadable"


def test_a_desired_state_is_no_job(desk: Desk) -> None:
    path = desk.state()
    desk.said("cloud", "desired", "sign", path, "--key", desk.key("fleet"))
    said = desk.refusal(ExitStatus.SECURITY, "cloud", "job", "add", path, "--root", desk.cloud)
    assert "of the kind 'desired'" in said
    assert not desk.cloud.exists()


def test_a_key_that_cannot_sign_lists_is_found_by_config_check(desk: Desk) -> None:
    config = desk.root / "edge.toml"
    text = (
        f'[node]\nid = "bed-1"\nroot = "{desk.root}"\nrun = "{desk.root}"\n[orders]\nlist_signer = '
    )
    config.write_text(f'{text}"{desk.key("fleet")}"\n', encoding="utf-8")
    assert desk.run("config", "check", config) == 0
    config.write_text(f'{text}"{desk.root / "absent.key"}"\n', encoding="utf-8")
    assert "absent.key" in desk.refusal(ExitStatus.SECURITY, "config", "check", config)
