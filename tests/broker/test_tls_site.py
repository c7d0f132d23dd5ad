"""A site with TLS from nothing, by the commands of docs/trust.md alone: broker, aggregator and box as they come."""

import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.cloud.broker.embedded import BrokerKind, find
from brainforge_edge.cloud.broker.ports import free_port
from brainforge_edge.core import config
from brainforge_edge.recorder.sealing import configured
from brainforge_edge.security.keystore import FileKeyStore
from brainforge_edge.security.tls import TlsFiles
from tests.broker.rig import Box, BoxLog, Ingest, assert_stored_once, stream, wait_for
from tests.broker.served import Served

MAG = stream("opm-mag")
CONFIGS = {BrokerKind.MOSQUITTO: "mosquitto.conf", BrokerKind.NATS: "nats-server.conf"}


@pytest.mark.parametrize("kind", list(BrokerKind))
def test_commands_alone_make_a_site_that_delivers_over_tls(
    tmp_path: Path, kind: BrokerKind, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    site, tls = tmp_path / "site", tmp_path / "tls"
    edge = tmp_path / "edge.toml"
    edge.write_text(
        f'[node]\nid = "bed-1"\n[uplink]\nport = {port}\nkeepalive_s = 2\n'
        f'[uplink.tls]\nca = "{tls}/ca.pem"\ncertificate = "{tls}/node.pem"\nkey = "{tls}/node.key"\n',
        encoding="utf-8",
    )
    at_site = ["--root", str(site)]
    issue = ["cloud", "ca", "issue"]
    _run(["cloud", "ca", "init", *at_site])
    _run([*issue, "broker", "--host", "127.0.0.1", *at_site, "--out", str(site / "broker")])
    _run([*issue, "aggregator", *at_site, "--out", str(site / "tls")])
    _run(["cloud", "ca", "token", "bed-1", *at_site])
    token, request, answer = tmp_path / "token", tmp_path / "request", tmp_path / "answer"
    token.write_text(capsys.readouterr().out.splitlines()[-1], encoding="utf-8")
    of_box, with_token = ["--config", str(edge)], ["--token-file", str(token)]
    _run(["enrol", "request", *of_box, *with_token, "--out", str(request)])
    _run(["cloud", "ca", "sign", str(request), *at_site, "--out", str(answer)])
    _run(["enrol", "install", str(answer), *of_box, *with_token])
    word = "nats" if kind is BrokerKind.NATS else "mosquitto"
    here = ["--host", "127.0.0.1", "--port", str(port)]
    _run(["cloud", "broker-config", *at_site, "--for", word, *here])

    log = BoxLog(tmp_path / "box")
    log.fill(MAG, 10)
    log.close()
    own = site / "tls"
    with ExitStack() as stack:
        _broker(stack, kind, site / "broker" / CONFIGS[kind], port)
        aggregator = TlsFiles(own / "ca.pem", own / "aggregator.pem", own / "aggregator.key")
        ingest = Ingest(tmp_path / "cloud", port, tls=aggregator)
        stack.callback(ingest.stop)
        ingest.start()
        uplink = config.load(edge).uplink
        box = Box(tmp_path / "box", port, tls=uplink.tls)
        stack.callback(box.stop)
        box.start().wait_drained()
    assert_stored_once(tmp_path / "cloud", log)


def test_one_command_at_the_box_brings_all_that_it_needs_to_send_sealed_rows_and_believe_receipts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is carried to it but the token."""
    port = free_port()
    site, own, keys = tmp_path / "site", tmp_path / "own", tmp_path / "keys"
    at_site = ["--root", str(site)]
    issue = ["cloud", "ca", "issue"]
    _run(["cloud", "ca", "init", *at_site])
    _run([*issue, "broker", "--host", "127.0.0.1", *at_site, "--out", str(site / "broker")])
    _run([*issue, "aggregator", *at_site, "--out", str(site / "tls")])
    here = ["--host", "127.0.0.1", "--port", str(port)]
    _run(["cloud", "broker-config", *at_site, "--for", "mosquitto", *here])
    publish = ["cloud", "ca", "publish", *at_site]
    for role in ("aggregator", "recovery", "signer"):
        _run(["keys", "make", str(keys / role), "--role", role])
        publish += [f"--{role}", str(keys / role / f"{role}.pem")]
    _run(publish)
    _run(["cloud", "ca", "token", "bed-1", *at_site])
    token = tmp_path / "token"
    token.write_text(capsys.readouterr().out.splitlines()[-1], encoding="utf-8")
    with ExitStack() as stack:
        served = Served(site)
        stack.callback(served.stop)
        edge = tmp_path / "edge.toml"
        edge.write_text(
            f'[node]\nid = "bed-1"\n[seal]\naggregator = "{own}/aggregator.pem"\n'
            f'recovery = "{own}/recovery.pem"\n[uplink]\nport = {port}\nsigner = "{own}/signer.pem"\n'
            f'[uplink.tls]\nca = "{own}/ca.pem"\ncertificate = "{own}/node.pem"\n'
            f'key = "{own}/node.key"\nenrol = "http://127.0.0.1:{served.start().port}"\n',
            encoding="utf-8",
        )
        _run(["enrol", "now", "--config", str(edge), "--token-file", str(token)])
        _run(["config", "check", str(edge)])

        known = config.load(edge)
        log = BoxLog(tmp_path / "box", for_=configured(known.seal))
        log.fill(MAG, 10)
        log.close()
        _broker(stack, BrokerKind.MOSQUITTO, site / "broker" / "mosquitto.conf", port)
        tls = site / "tls"
        aggregator = TlsFiles(tls / "ca.pem", tls / "aggregator.pem", tls / "aggregator.key")
        signer = keys / "signer" / "signer.key"
        ingest = Ingest(tmp_path / "cloud", port, tls=aggregator, signer=signer)
        stack.callback(ingest.stop)
        ingest.start()
        box = Box(
            tmp_path / "box",
            port,
            tls=known.uplink.tls,
            signer=known.uplink.signer,
            seal=known.seal,
        )
        stack.callback(box.stop)
        box.start().wait_drained()
        assert box.pump.stats["forged"] == 0
    for role in ("aggregator", "recovery"):
        assert_stored_once(tmp_path / "cloud", log, private=FileKeyStore(keys / role))


def _run(words: list[str]) -> None:
    assert main(words) == 0, words


def _broker(stack: ExitStack, kind: BrokerKind, path: Path, port: int) -> None:
    if kind is BrokerKind.MOSQUITTO and os.geteuid() == 0:
        # Else it drops to a user that cannot read the test's folder.
        path.write_text(path.read_text(encoding="utf-8") + "user root\n", encoding="utf-8")
    program = find(kind)
    assert program is not None
    log = path.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen([str(program), "-c", str(path)], stderr=out)
    stack.callback(process.wait)
    stack.callback(process.terminate)

    def listens() -> bool:
        with socket.socket() as sock:
            return process.poll() is None and sock.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens, why=log.read_text)
