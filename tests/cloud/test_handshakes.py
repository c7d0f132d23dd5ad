"""The authority's server over TLS, beside many who connect and say nothing."""

import asyncio
import http.client
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

from brainforge_edge.cli.demo.children import python
from brainforge_edge.cli.main import main
from brainforge_edge.cloud.authority.desk import HEALTH_PATH
from brainforge_edge.cloud.authority.handshakes import MOST_HANDSHAKES, CountedSocket
from brainforge_edge.cloud.authority.server import listen
from tests.broker.served import Served

SILENT = 300
DESCRIPTORS = 256
LESS_THAN_ASYNCIO_S = 40.0  # which hangs up by itself after a minute


def _certificate(root: Path) -> tuple[Path, Path]:
    assert main(["cloud", "ca", "init", "--root", str(root)]) == 0
    out = root / "server"
    issue = ["cloud", "ca", "issue", "broker", "--root", str(root), "--host", "127.0.0.1"]
    assert main([*issue, "--out", str(out)]) == 0
    return out / "broker.pem", out / "broker.key"


def test_a_box_gets_through_beside_hundreds_of_silent_handshakes(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    few = ("/bin/sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "few")
    serve = (*few, *python("brainforge_edge.cli.main", "cloud", "ca", "serve"))
    more = ("--tls-cert", str(certificate), "--tls-key", str(key))
    served = Served(tmp_path, more=more, command=serve).start()
    trusts = ssl.create_default_context(cafile=str(tmp_path / "ca" / "ca.pem"))
    try:
        with ExitStack() as held:
            for _ in range(SILENT):
                sock = socket.create_connection(("127.0.0.1", served.port), LESS_THAN_ASYNCIO_S)
                held.enter_context(sock)
            honest = http.client.HTTPSConnection(
                "127.0.0.1", served.port, timeout=LESS_THAN_ASYNCIO_S, context=trusts
            )
            honest.request("GET", HEALTH_PATH)
            assert honest.getresponse().status == 200
            honest.close()
            descriptors = list(Path(f"/proc/{served.pid}/fd").iterdir())
            assert len(descriptors) < MOST_HANDSHAKES + 64
        assert not [line for line in served.lines() if line.get("level") == "error"]
    finally:
        assert served.stop() == 0


def test_who_is_silent_for_longer_than_a_handshake_may_take_hears_the_end() -> None:
    async def one_round() -> bytes:
        listening = CountedSocket(listen("127.0.0.1", 0), handshake_s=0.01)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, sock=listening, ssl=context)
        async with server:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            said = await asyncio.wait_for(reader.read(), LESS_THAN_ASYNCIO_S)
            writer.close()
            return said

    assert asyncio.run(one_round()) == b""
