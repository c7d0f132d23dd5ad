"""Words between people, programs and processes: LSL, control socket, ipc, configuration."""

import asyncio
import struct
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.config import EdgeConfig, parse
from brainforge_edge.core.errors import BrainforgeError, ConfigError
from brainforge_edge.core.ids import checked_name
from brainforge_edge.daemon import control
from brainforge_edge.daemon.arguments import mapping, number, text
from brainforge_edge.devices.lsl_description import describe, row_text
from brainforge_edge.outlets import rcs
from tests.fuzz.target import Bytes, Target, plain

T = TypeVar("T")
_XML = """<?xml version="1.0"?><info><name>cap</name><desc><manufacturer>We</manufacturer>
<acquisition><model>M1</model><emulated>1</emulated></acquisition><channels>
<channel><label>Fz</label><type>EEG</type><unit>microvolts</unit></channel>
<channel><label>Cz</label><type>MEG</type><unit>fT</unit></channel></channels></desc></info>"""
_TOML = """[node]
id = "bed-7"
run = "/run/bf"
[recording]
auto_record = true
cut_s = 60.5
sync_ms = 80
[lsl]
outlets = ["helmet-mag"]
peers = ["10.0.0.2"]
[[device]]
name = "helmet"
kind = "opm"
[device.settings]
port = "/dev/brainforge/helmet"
silent_s = 2.0
levels = [1, 2.5, "a", 1979-05-27T07:32:00Z, {x = inf}]
a.b.c.d = 1
"""


def run_lsl_description(data: bytes) -> None:
    source = Bytes(data)
    n = source.number() % 5
    found = describe(source.rest().decode("utf-8", "surrogateescape"), n, kind="EEG", unit="µV")
    assert len(found.channels) == n
    assert all(channel.name.isprintable() and len(channel.name) <= 64 for channel in found.channels)
    row_text([c.name for c in found.channels] or ["x"], [float(n)] * max(1, n))


def lsl_description_seeds() -> list[bytes]:
    xml = _XML.encode()
    swelling = b'<!DOCTYPE a [<!ENTITY b "c">]>' + xml
    return [b"\2" + xml, b"\1" + xml, b"\0", b"\2" + swelling, b"\2" + b"<a>" * 300]


def run_lsl_remote(data: bytes) -> None:
    fields: dict[str, str] = {}
    for line in data.split(b"\n"):
        said = rcs.parse(line.decode("utf-8", "replace"))
        fields.update(said.fields)
        name = rcs.recording_name(fields)
        assert len(name) <= rcs.MAX_NAME
        if name:
            checked_name(name, "the recording")


def lsl_remote_seeds() -> list[bytes]:
    lines = (
        b"select all", b"filename {root:/data} {template:exp%n\\%p_block_%b.xdf} {task:rest}",
        b"filename {participant:P001} {session:S1} {run:2} {acquisition:a b} {modality:eeg}",
        b"start", b"stop", b"update", b"filename {task:left open",
    )  # fmt: skip
    return [*lines, b"\n".join(lines)]


_LOOP = asyncio.new_event_loop()
_LOOP.close()  # nothing here waits: a stream needs it by name only


def finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of what never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")


async def read_all(data: bytes) -> None:
    reader = asyncio.StreamReader(loop=_LOOP)
    reader.feed_data(data)
    reader.feed_eof()
    while await ipc.read(reader) is not None:
        pass


def run_ipc(data: bytes) -> None:
    source = Bytes(data)
    is_framed = source.number() & 1
    body = source.rest()
    with suppress(BrainforgeError):
        finished(read_all(struct.pack("<I", len(body)) + body if is_framed else body))


def ipc_seeds() -> list[bytes]:
    said: list[ipc.Message] = [
        ipc.Start(config=b"x", worker="acquire:h", rings={"h-mag": "/r"}, open_recording="r"),
        ipc.OpenRecording(recording="rec-1", preroll_s=1.5),
        ipc.Marks(marks=((5, 0.5, "pulse"), (6, 0.0, "")), token=3),
        ipc.Command(token=7, name="zero", arguments={"channels": ["A"], "wait_s": 2.5}),
        ipc.Heartbeat(stats={"link": "streaming", "streams": {"a": [1, None, True]}}),
        ipc.CommandDone(token=7, values={"state": "ready"}, error={"code": "a.b"}),
        ipc.Archived(recording="r", stream_id="s", segment="0001.seg", end=2**40),
        ipc.Watch(t_ns=1, is_safe=True, links={"h": "lost"}, channels={"h": (3, 8)}),
        ipc.RecorderAsk(recording="r", wants="open", devices={"h": "p"}, since_ns=9),
        ipc.Outgoing(events=((1, "session.started", b"x"),)),
        ipc.Ready(),
    ]
    packed = [ipc.encode(message) for message in said]
    return [b"\1" + each[4:] for each in packed] + [b"\0" + b"".join(packed)]


async def _record(request: dict[str, Any]) -> dict[str, Any]:
    return {"name": text(request, "name"), "preroll": number(request, "preroll", 0.0, most=60.0)}


async def _mark(request: dict[str, Any]) -> dict[str, Any]:
    duration = number(request, "duration", 0.0, most=86_400.0)
    return {"mark": (duration, text(request, "description"))}


async def _command(request: dict[str, Any]) -> dict[str, Any]:
    """What the verb checks, and the way to the worker."""
    arguments = mapping(request, "arguments")
    timeout_s = number(request, "timeout", 1.0, most=900.0)
    name = text(request, "command")
    ipc.encode(ipc.Command(token=1, name=name, arguments=arguments))
    return {"timeout": timeout_s}


_VERBS: dict[str, control.Verb] = {"record": _record, "mark": _mark, "command": _command}


def run_control(data: bytes) -> None:
    for line in data.splitlines(keepends=True):
        reply = finished(control._answer(line, _VERBS))
        msgspec.json.encode(reply)


def control_seeds() -> list[bytes]:
    requests = (
        b'{"verb":"record","name":"rec-1","preroll":3.5}',
        b'{"verb":"mark","description":"eyes \\u00e9 closed","duration":1e3}',
        b'{"verb":"command","device":"h","command":"zero","arguments":{"a":[1,-2.5,null,"x"]}}',
        b'{"verb":"command","command":"x","arguments":{"n":18446744073709551615},"timeout":2}',
        b'{"verb":["status"]}',
        b'{"verb":"status"',
    )
    return [*(each + b"\n" for each in requests), b"\n".join(requests)]


def run_config(data: bytes) -> None:
    with suppress(ConfigError):
        config = parse(data.decode("utf-8", "replace"))
        # Every worker gets it in this form.
        packed = msgspec.msgpack.encode(config)
        msgspec.msgpack.decode(packed, type=EdgeConfig)


def config_seeds() -> list[bytes]:
    whole = _TOML.encode()
    small = b'[node]\nid = "a"\n[recording]\n'
    numbers = (
        b"sync_ms = 1" + b"0" * 400,
        b"sync_ms = 1" + b"0" * 4400,
        b"cut_s = nan",
        b"cut_s = 1e308",
        b"preroll_s = 1",
    )
    deep = b"a" + b".a" * 1500 + b" = 1\n"
    return [whole, *(small + each + b"\n" for each in numbers), small + deep, b"a = " + b"[" * 50]


TARGETS = (
    Target("lsl-description", lsl_description_seeds, plain(run_lsl_description), 2048),
    Target("lsl-remote", lsl_remote_seeds, plain(run_lsl_remote)),
    Target("ipc", ipc_seeds, plain(run_ipc)),
    Target("control", control_seeds, plain(run_control)),
    Target("config", config_seeds, plain(run_config), 8192),
)
