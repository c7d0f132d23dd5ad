"""The command `devices` without a daemon: what it says of addresses and folders, and its pace."""

import json
import socket
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cli.devices import listing
from brainforge_edge.cli.devices.listing import Listing
from brainforge_edge.core.errors import NoDaemonError
from tests.faults.box import check_refusal, cli

CONFIG, NO_DAEMON = 10, 20
NETWORK = ("devices", "--link", "network")


@pytest.mark.parametrize("is_silent", [True, False])
def test_an_address_where_nobody_answers_is_told_by_name_with_what_to_do(
    tmp_path: Path, *, is_silent: bool
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if is_silent:
            other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        result = cli(*NETWORK, "--at", address, "--run", tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    (trouble,) = json.loads(result.stdout)["troubles"]
    assert trouble["what"] == f"no device of ours answers at {address}"
    assert "nothing came" in trouble["why"] if is_silent else "nobody listens" in trouble["why"]
    assert "--at" in trouble["remedy"]
    assert "`port`" not in trouble["remedy"]
    assert trouble["code"] == f"device.{'no_answer' if is_silent else 'connection_refused'}"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://x:1", "tcp://HOST:PORT"),
        ("tcp://x", "tcp://HOST:PORT"),
        ("tcp://x:99999", "its port number is out of range"),
    ],
)
def test_what_is_no_address_is_refused_with_the_name_of_the_option(address: str, why: str) -> None:
    check_refusal(cli(*NETWORK, "--at", address), CONFIG, repr(address), why, "given with --at")


def test_a_configured_address_where_nobody_answers_is_told_in_its_row_alone(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        config = tmp_path / "edge.toml"
        config.write_text(
            f'[node]\nid = "box"\nroot = "{tmp_path}/root"\nrun = "{tmp_path}/run"\n'
            f'[[device]]\nname = "hat"\nkind = "accel_hat"\nsettings = {{ port = "{address}" }}\n'
        )
        result = cli(*NETWORK, "--config", config, "--json")
    found = json.loads(result.stdout)
    assert found["troubles"] == []
    assert [(row["device"], row["state"]) for row in found["devices"]] == [("hat", "gone")]


@pytest.mark.parametrize("is_file", [True, False])
def test_a_run_folder_that_is_not_there_is_refused_as_by_status(
    tmp_path: Path, *, is_file: bool
) -> None:
    run = tmp_path / "nope"
    if is_file:
        run.touch()
    refused = cli("devices", "--link", "serial", "--run", run)
    check_refusal(refused, NO_DAEMON, str(run))
    assert refused.stderr == cli("status", "--run", run).stderr
    assert cli("devices", "--link", "serial", "--run", tmp_path).returncode == 0


def test_the_box_is_asked_around_each_look_and_a_round_lasts_its_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[float] = []

    def request(socket: Path, verb: str, **_: Any) -> dict[str, Any]:
        asked.append(time.monotonic())
        if len(asked) > 6:
            raise KeyboardInterrupt
        raise NoDaemonError("not_running", f"{verb} {socket}", why="so", remedy="None")

    monkeypatch.setattr(listing, "request", request)
    watching = Listing(
        config=None, run_folder=tmp_path, seconds=0.3, links=("network",), addresses=(),
        probe=False, shows_all=False,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        watching.watch(as_json=True)
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert all(later - sooner >= 0.29 for sooner, later in pairwise(asked[::2]))
