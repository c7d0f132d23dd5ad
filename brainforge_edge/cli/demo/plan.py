"""What a demo consists of: folders, devices, the daemon's configuration. Runs in: the demo process."""

import json
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.sealing import AGGREGATOR, KEYS_FOLDER
from brainforge_edge.security.keystore import PUBLIC_SUFFIX, make_pair
from brainforge_edge.storage.files import SystemDisk

NODE = "demo-box"


class DemoDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One emulated device; `kind` is its driver's, `emulator` its emulator's."""

    name: str
    kind: str
    emulator: str
    replay: Path | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is decided before the first process starts."""

    root: Path
    run: Path
    seconds: float
    devices: tuple[DemoDevice, ...]
    broker: str = ""  # "" for the first that is installed
    protocol: int = 5
    is_sealed: bool = False

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def cloud(self) -> Path:
        return self.root / "cloud"

    @property
    def recordings(self) -> Path:
        return self.root / "box" / "recordings"

    @property
    def config(self) -> Path:
        return self.root / "edge.toml"

    @property
    def cloud_keys(self) -> Path:
        """The aggregator's pair; the boxes have the public half."""
        return self.root / "aggregator-keys"

    @property
    def box_keys(self) -> Path:
        return self.root / "box" / KEYS_FOLDER

    def link(self, device: DemoDevice) -> Path:
        """The emulator's port, as stable as a udev name."""
        return self.run / "dev" / device.name

    def ledger(self, device: DemoDevice) -> Path:
        return self.root / "ledgers" / f"{device.name}.json"

    def make_folders(self) -> None:
        """Raises StorageError; refuses a root that already holds a demo."""
        if self.recordings.exists() or self.cloud.exists():
            raise StorageError(
                "demo_root",
                f"the demo was not started in {self.root}",
                why="an earlier demo lies there, and its samples would be counted again",
                remedy="Remove that folder or name another with --root",
            )
        for folder in (
            self.logs,
            self.cloud,
            self.recordings,
            self.root / "ledgers",
            self.run / "dev",
        ):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    "folder",
                    f"cannot make the folder {folder}",
                    why=str(error.strerror or error).lower(),
                    remedy="Name a writable folder with --root",
                ) from error

    def make_keys(self) -> None:
        """The aggregator's pair, if the demo is sealed."""
        if self.is_sealed:
            disk = SystemDisk()
            disk.make_folder(self.cloud_keys)
            make_pair(self.cloud_keys, AGGREGATOR, disk.write_new)

    def write_config(self, port: int) -> None:
        """The daemon's configuration, with the broker's port. Raises StorageError."""
        try:
            self.config.write_text(self.toml(port), encoding="utf-8")
        except OSError as error:
            raise StorageError(
                "demo_config",
                f"cannot write {self.config}",
                why=str(error.strerror or error).lower(),
                remedy="Name an empty, writable folder with --root",
            ) from error

    def toml(self, port: int) -> str:
        """The daemon's configuration."""
        lines = [
            "[node]",
            f"id = {json.dumps(NODE)}",
            f"root = {json.dumps(str(self.root / 'box'))}",
            f"run = {json.dumps(str(self.run))}",
            "",
            "[recording]",
            "auto_record = true",
            "",
            "[disk]",
            "reserve_mib = 64",
            "",
            "[uplink]",
            'host = "127.0.0.1"',
            f"port = {port}",
            f"protocol = {self.protocol}",
        ]
        public = self.cloud_keys / f"{AGGREGATOR}{PUBLIC_SUFFIX}"
        seal = f"aggregator = {json.dumps(str(public))}" if self.is_sealed else "enabled = false"
        lines += ["", "[seal]", seal]
        for device in self.devices:
            lines += [
                "",
                "[[device]]",
                f"name = {json.dumps(device.name)}",
                f"kind = {json.dumps(device.kind)}",
                f"settings = {{ port = {json.dumps(str(self.link(device)))} }}",
            ]
        return "\n".join(lines) + "\n"
