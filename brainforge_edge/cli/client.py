"""Client of the daemon's control socket: one JSON request a line, one JSON reply a line.

Runs in: the CLI process. The other side is `daemon/control.py`.
"""

import json
import socket
from pathlib import Path
from typing import Any

from brainforge_edge.core.config import DEFAULT_RUN, SOCKET_NAME, load
from brainforge_edge.core.errors import NoDaemonError, from_dict

_MAX_REPLY = 16 * 1024 * 1024


def socket_path(config: Path | None, run: Path | None) -> Path:
    """Where the daemon listens: `--run` wins, then the configuration's `node.run`."""
    if run is not None:
        return run / SOCKET_NAME
    return Path(load(config).node.run if config is not None else DEFAULT_RUN) / SOCKET_NAME


def request(path: Path, verb: str, *, timeout_s: float = 10.0, **fields: object) -> dict[str, Any]:
    """Ask the daemon; returns its reply.

    Raises NoDaemonError when nobody listens or no reply comes in time, and whatever error of ours
    the daemon replied with.
    """
    line = json.dumps({"verb": verb, **fields}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoDaemonError(
                "not_running",
                f"no daemon answers at {path}",
                why="the daemon is not running, or runs with another configuration",
                remedy="Start it with `brainforge-edge run --config FILE`, or name its "
                "configuration with --config",
                socket=path,
            ) from error
        except PermissionError as error:
            raise NoDaemonError(
                "refused",
                f"the daemon's socket {path} cannot be opened",
                why="this user may not use it",
                remedy="Run the command as the daemon's user or as root",
                socket=path,
            ) from error
        except OSError as error:
            raise NoDaemonError(
                "unreachable",
                f"the daemon's socket {path} cannot be opened",
                why=str(error.strerror or error).lower(),
                remedy="Check the path given with --run or in the configuration",
                socket=path,
            ) from error
        reply = _exchange(sock, line, verb=verb, timeout_s=timeout_s)
    if not reply.get("ok"):
        error_fields = reply.get("error")
        if isinstance(error_fields, dict):
            raise from_dict(error_fields)
        raise _garbled(verb, "its reply is neither a result nor an error")
    return reply


def _exchange(sock: socket.socket, line: bytes, *, verb: str, timeout_s: float) -> dict[str, Any]:
    received = bytearray()
    try:
        sock.sendall(line)
        while not received.endswith(b"\n"):
            part = sock.recv(65536)
            if not part:
                raise _garbled(verb, "it closed the connection before it replied")
            received += part
            if len(received) > _MAX_REPLY:
                raise _garbled(verb, f"its reply is longer than {_MAX_REPLY} bytes")
    except TimeoutError as error:
        raise NoDaemonError(
            "silent",
            f"the daemon did not answer {verb!r}",
            why=f"nothing came within {timeout_s:g} s",
            remedy="Look at its log; it may still be at work on the request",
            transient=True,
        ) from error
    except ConnectionError as error:
        raise _garbled(verb, "the connection broke before it replied") from error
    try:
        reply = json.loads(received)
    except ValueError as error:
        raise _garbled(verb, "its reply is not JSON") from error
    if not isinstance(reply, dict):
        raise _garbled(verb, "its reply is not an object")
    return reply


def _garbled(verb: str, why: str) -> NoDaemonError:
    return NoDaemonError(
        "garbled",
        f"the daemon did not answer {verb!r} as it should",
        why=why,
        remedy="Look at its log; restart it if it stopped",
        transient=True,
    )
