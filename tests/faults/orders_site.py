"""A sealed box that knows two signers, a broker and an aggregator, and the commands that an operator gives there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.cloud.store.outbound import Outbound
from brainforge_edge.cloud.store.reader import StoreReader
from brainforge_edge.codec import registry
from brainforge_edge.security.keystore import FileKeyStore, make_pair
from brainforge_edge.security.signfiles import make_signing_pair
from brainforge_edge.storage.files import SystemDisk
from tests.broker.rig import Ingest
from tests.faults.box import Box, box_in, cli

DISK = SystemDisk()
MOST_S = 90.0


class OrdersSite:
    """A participant under each cap; `keys` below the root hold a folder for each pair."""

    def __init__(self, root: Path, box: Box, broker: EmbeddedBroker, caps: tuple[str, ...]) -> None:
        self.root = root
        self.caps = caps
        self.box = box
        self.broker = broker
        self.cloud = root / "cloud"
        self.outbound = Outbound(self.cloud, DISK)
        for name in ("fleet", "clinician", "lists", "old", "new"):
            DISK.make_folder(self.key(name))
            if name in {"old", "new"}:
                make_pair(self.key(name), "aggregator", DISK.write_new)
            else:
                make_signing_pair(self.key(name), DISK.write_new)
        self.ingest = Ingest(self.cloud, broker.port)

    def key(self, name: str) -> Path:
        return self.root / "keys" / name

    def start(self) -> None:
        """Box and aggregator; returns when both streams flow."""
        for cap in self.caps:
            self.box.device(cap, "openbci")
            self.box.emulate(cap, "cyton", channels=8)
        self.box.devices = [_with_subject(entry) for entry in self.box.devices]
        signers = ", ".join(
            f'{{role = "{role}", key = "{self.key(role)}/signer.pem"}}'
            for role in ("fleet", "clinician")
        )
        self.box.write_config(
            uplink=f"port = {self.broker.port}\n"
            f'[seal]\nenabled = true\naggregator = "{self.key("old")}/aggregator.pem"\n'
            f'[orders]\nsigners = [{signers}]\nlist_signer = "{self.key("lists")}/signer.key"'
        )
        self.ingest.start()
        self.box.start()
        for cap in self.caps:
            self.box.until_streaming(f"{cap}-eeg", 40)

    def said(self, *arguments: object) -> dict[str, Any]:
        """What a command says to a machine."""
        result = cli(*arguments, "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        said: dict[str, Any] = json.loads(result.stdout)
        return said

    def requested(self, *arguments: object, name: str) -> Path:
        path = self.root / name
        made = cli(*arguments)
        assert made.returncode == 0, made.stderr
        path.write_text(made.stdout, encoding="utf-8")
        return path

    def rotate(self, *arguments: object) -> int:
        """Set a desired state; its version."""
        path = self.requested(
            "cloud", "desired", "request", "--node", "box", *arguments, name="desired.json"
        )
        self.said("cloud", "desired", "sign", path, "--key", self.key("fleet") / "signer.key")
        return int(self.said("cloud", "desired", "set", path, "--root", self.cloud)["version"])

    def shown(self) -> dict[str, Any]:
        nodes = self.said("cloud", "desired", "show", "--root", self.cloud)["nodes"]
        assert [each["node"] for each in nodes] == ["box"]
        shown: dict[str, Any] = nodes[0]
        return shown

    def until_stands(self, version: int) -> dict[str, Any]:
        def is_told() -> bool:
            said = self.outbound.reported("box")
            return said is not None and (said.version, said.left) == (version, 0)

        self.box.until(is_told, MOST_S, f"version {version} and its keys")
        return self.shown()

    def erasing(self, participant: str, *more: str) -> Path:
        order = self.requested(
            "erase", "request", "--participant", participant, "--node", "box",
            "--reason", "withdrawn", *more, name="order.json",
        )  # fmt: skip
        for who in ("fleet", "clinician"):
            self.said("erase", "sign", order, "--key", self.key(who) / "signer.key")
        return order

    def add(self, order: Path) -> str:
        return str(self.said("cloud", "job", "add", order, "--root", self.cloud)["job"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Its state at the box."""
        jobs = self.said("cloud", "job", "list", "--root", self.cloud)["jobs"]
        (found,) = [each for each in jobs if (each["job"], each["node"]) == (job_id, "box")]
        shown: dict[str, Any] = found
        return shown

    def until_job(self, job_id: str, state: str) -> dict[str, Any]:
        def is_told() -> bool:
            said = self.outbound.status(job_id, "box")
            return said is not None and said.state == state

        self.box.until(is_told, MOST_S, f"job {state}")
        return self.job(job_id)

    def recorded(self, more: int) -> None:
        """So many rows more of both are durable."""

        def durable(cap: str) -> int:
            return int(self.box.stream(f"{cap}-eeg").get("durable") or 0)

        goals = {cap: durable(cap) + more for cap in self.caps}
        self.box.until(lambda: all(durable(c) >= goals[c] for c in goals), 40, f"{more} rows")

    def until_delivered(self) -> None:
        def is_done() -> bool:
            uplink = self.box.status().get("uplink", {})
            return uplink.get("state") == "open" and not uplink["lag_chunks"]

        self.box.until(is_done, MOST_S, "the end of delivery")

    def stored_rows(self, name: str) -> dict[str, int]:
        """Rows of each EEG stream in the store, all of them opened with the private key of that name alone."""
        reader = StoreReader(
            self.cloud,
            decode=registry.decode,
            pack=registry.pack_rows,
            private=FileKeyStore(self.key(name)),
        )
        try:
            return {
                s.stream_id: sum(len(rows) for _, rows in reader.iter_rows(s.log_id, s.stream_id))
                for s in reader.streams()
                if s.stream_id.endswith("-eeg")
            }
        finally:
            reader.close()


def _with_subject(entry: str) -> str:
    name = entry.split('"')[1]
    return entry.replace("settings =", f'subject = "p-{name}"\nsettings =')


@contextmanager
def orders_site(root: Path, caps: tuple[str, ...] = ("one", "two")) -> Iterator[OrdersSite]:
    with (
        EmbeddedBroker(root / "broker", kind=BrokerKind.MOSQUITTO) as broker,
        box_in(root) as box,
    ):
        site = OrdersSite(root, box, broker, caps)
        try:
            yield site
        finally:
            site.ingest.stop()
