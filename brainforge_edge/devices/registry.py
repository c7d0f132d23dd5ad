"""Finds the driver of a device by its kind: a module here, else an entry point. No list to edit.

Runs in: acquire process, main thread; `kinds` also in the command line.
"""

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from inspect import signature
from pathlib import Path
from types import ModuleType

from brainforge_edge import devices
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import DeviceConfig, convert
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.devices.base import Driver

ENTRY_POINTS = "brainforge_edge.devices"


def kinds() -> list[str]:
    """Every kind of device that `load` finds, sorted. Imports each driver: not for the hot path."""
    found = {
        module.name for module in pkgutil.iter_modules(devices.__path__) if _is_driver(module.name)
    }
    found.update(point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS))
    return sorted(found)


def load(kind: str) -> ModuleType:
    """The driver module of `kind`: it has `Config` and `make_driver(config, *, device, clock)`,
    with `run` as well if it wants the node's run folder.

    ConfigError when there is none; it lists the kinds that exist.
    """
    if kind.isidentifier() and _is_driver(kind):
        return importlib.import_module(f"{devices.__name__}.{kind}")
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=kind):
        module = point.load()
        if isinstance(module, ModuleType):
            return module
    raise ConfigError(
        "unknown_kind",
        f"there is no driver for devices of kind {kind!r}",
        why=f"the kinds that exist are {', '.join(kinds())}",
        remedy="Correct `kind` in the configuration, or install the driver's package",
    )


def make_driver(device: DeviceConfig, *, clock: Clock, run: Path | None = None) -> Driver:
    """The driver of one `[[device]]`; ConfigError names a wrong kind or setting.

    `run`: the node's run folder, for those that share something with other processes.
    """
    module = load(device.kind)
    source = f"[device.settings] of {device.name!r}"
    config = convert(device.settings, module.Config, source)
    shared = {"run": run} if "run" in signature(module.make_driver).parameters else {}
    driver: Driver = module.make_driver(config, device=device.name, clock=clock, **shared)
    return driver


def _is_driver(name: str) -> bool:
    """A module of this package is a driver if and only if it has both words."""
    full = f"{devices.__name__}.{name}"
    if importlib.util.find_spec(full) is None:
        return False
    module = importlib.import_module(full)
    return hasattr(module, "Config") and hasattr(module, "make_driver")
