"""What reaches the pump from other threads. Runs in: uplink process; put by paho's and main thread, taken by the pump."""

import queue
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from brainforge_edge.core import ipc
from brainforge_edge.core.events import EventType

Emit = Callable[[EventType, str, dict[str, Any]], None]  # an event: type, stream, data


class Link(StrEnum):
    """Where the uplink stands; shown by `status`."""

    NO_BROKER = "broker absent"
    ASKING = "no aggregator"  # connected, no answer to hello yet
    OPEN = "open"
    CLONE = "refused: another box has this log id"


class Heard(NamedTuple):
    """A message from the broker."""

    topic: str
    payload: bytes


class Lost(NamedTuple):
    """The link is down."""

    reason: str


class Written(NamedTuple):
    """A message of ours has left the process."""

    mid: int


class OutEvent(NamedTuple):
    """An event for the cloud."""

    kind: str
    payload: bytes
    number: int | None = None  # in the agent's outbox, which keeps it until the broker has it


Word = Heard | Lost | Written | OutEvent | ipc.Archived | None  # None only wakes
Inbox = queue.SimpleQueue[Word]
