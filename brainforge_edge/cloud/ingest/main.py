"""The ingest process: subscriber, writer, status file. Runs in: ingest process, main thread is the writer."""

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from brainforge_edge.cloud.ingest.dispatch import Dispatch
from brainforge_edge.cloud.ingest.subscriber import Inbox, Subscriber
from brainforge_edge.cloud.ingest.writer import Writer
from brainforge_edge.cloud.store.chunks import ChunkStore
from brainforge_edge.codec import registry
from brainforge_edge.core import log
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import BrainforgeError, ExitStatus
from brainforge_edge.security.keystore import store_at
from brainforge_edge.security.sign import Signer
from brainforge_edge.security.signfiles import signer_at
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.storage.files import SystemDisk

STATUS_FILE = "status.json"
_STATUS_EVERY_S = 0.5


def run(
    root: Path,
    host: str,
    port: int,
    *,
    protocol: int = 5,
    keepalive_s: int = 8,
    keys: str | None = None,
    tls: TlsFiles | None = None,
    signer: Signer | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Ingest into `root`, with the private keys at `keys` where overlaps are to be compared, until `stop` is set, or SIGTERM or SIGINT when called in the main thread.

    What boxes are told is signed by `signer`, if there is one.
    """
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    SystemDisk().make_folder(root)
    store = ChunkStore(
        root, decode=registry.decode, private=None if keys is None else store_at(keys)
    )
    inbox = Inbox()
    subscriber = Subscriber(
        inbox,
        host=host,
        port=port,
        client_id=f"bf-ingest-{os.urandom(6).hex()}",
        keepalive_s=keepalive_s,
        protocol=protocol,
        tls=tls,
    )
    dispatch = Dispatch(root, subscriber.publish, disk=SystemDisk(), utc_ns=SystemClock().utc_ns)
    writer = Writer(store, inbox, subscriber.publish, signer=signer, dispatch=dispatch)
    subscriber.start()
    next_status = 0.0
    try:
        while not stop.is_set():
            writer.step()
            if time.monotonic() >= next_status:
                _write_status(root, writer, subscriber)
                next_status = time.monotonic() + _STATUS_EVERY_S
    finally:
        subscriber.close()
        _write_status(root, writer, subscriber)
        store.close()


def status(root: Path) -> dict[str, Any]:
    """What the ingest process under `root` last said; empty before its first word."""
    try:
        said: dict[str, Any] = json.loads((root / STATUS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return said


def _write_status(root: Path, writer: Writer, subscriber: Subscriber) -> None:
    said = {
        "pid": os.getpid(),
        "connected": subscriber.connected,
        "protocol": subscriber.protocol,
        **writer.status(),
    }
    # A display, not a record: replaced whole, never synced.
    fresh = root / f".{STATUS_FILE}.{os.getpid()}"
    try:
        fresh.write_text(json.dumps(said), encoding="utf-8")
        fresh.replace(root / STATUS_FILE)
    except OSError as error:
        log.get(part="ingest").debug("status not written", error=str(error))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Store what boxes send over MQTT.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--broker", default="127.0.0.1:1883", help="host:port")
    parser.add_argument("--protocol", type=int, choices=(4, 5), default=5)
    parser.add_argument("--keepalive", type=int, default=8)
    parser.add_argument("--signer", type=Path)
    for part in ("ca", "cert", "key"):
        parser.add_argument(f"--tls-{part}", type=Path)
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args(arguments)
    host, _, port = options.broker.rpartition(":")
    log.configure("ingest", level=options.log_level)
    try:
        run(
            options.root,
            host or "127.0.0.1",
            int(port),
            protocol=options.protocol,
            keepalive_s=options.keepalive,
            tls=TlsFiles(options.tls_ca, options.tls_cert, options.tls_key)
            if options.tls_ca
            else None,
            signer=signer_at(options.signer) if options.signer else None,
        )
    except BrainforgeError as error:
        log.get(part="ingest").error("stopped", error=str(error), code=error.code)
        return error.exit_status
    return ExitStatus.OK


if __name__ == "__main__":
    sys.exit(main())
