"""Desired states and jobs as they come to a box, signed and not; what boxes say of them to the aggregator."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from brainforge_edge.cloud.ingest.dispatch import Dispatch
from brainforge_edge.cloud.store.outbound import Outbound
from brainforge_edge.core import topics, wire
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.security.desired import DesiredState, SealState, desired_statement, new_desired
from brainforge_edge.security.order import (
    EraseOrder,
    OrderFile,
    Signers,
    check_place,
    check_time,
    new_order,
    read_order_file,
    signed_by,
    statement,
)
from brainforge_edge.security.sign import make_signer, read_signer
from brainforge_edge.storage.files import SystemDisk
from tests.fuzz.target import Bytes, Run, Target, plain

NODE = "node-1"
_FLEET = read_signer(make_signer()[0], "fuzz")
_CLINICIAN = read_signer(make_signer()[0], "fuzz")
_SIGNERS = Signers([("fleet", _FLEET.public), ("clinician", _CLINICIAN.public)])
_STATE = DesiredState(
    nodes=(NODE,), log_ids=("00" * 16,), issued_utc_ns=1, expires_utc_ns=9, counter=1,
    seal=SealState(), signer="",
)  # fmt: skip
_ORDER = EraseOrder(
    participant="p1", recordings=("r1",), nodes=(NODE,), log_ids=(), reason="why",
    issued_utc_ns=1, expires_utc_ns=9, counter=1,
)  # fmt: skip


def _order(data: bytes) -> None:
    """As it came; or its body, as two have signed it."""
    source = Bytes(data)
    mode = source.number()
    body = source.rest()
    with suppress(BrainforgeError):
        if mode & 1:
            file = OrderFile(body.decode("utf-8", "replace"))
            for signer in (_FLEET, _CLINICIAN)[: 1 + (mode >> 1 & 1)]:
                file = signed_by(file, signer)
        else:
            file = read_order_file(body)
        for kind in ("erase", "desired"):
            with suppress(BrainforgeError):
                _SIGNERS.check_signed(file, kind)
        said = desired_statement(file) if mode & 4 else statement(file)
        check_place(said, NODE, "00" * 16)
        check_time(said, 5)


def order_seeds() -> list[bytes]:
    state, order = new_desired(_STATE), new_order(_ORDER)
    signed = signed_by(signed_by(order, _FLEET), _CLINICIAN)
    return [
        b"\4" + msgspec.json.encode(signed_by(state, _FLEET)),
        b"\0" + msgspec.json.encode(signed),
        b"\5" + state.body.encode(),
        b"\3" + order.body.encode(),
        b'\3{"kind":"stimulate"}',
    ]


@contextmanager
def _aggregator() -> Iterator[Run]:
    with TemporaryDirectory(prefix="bf-fuzz-") as folder:
        disk = SystemDisk()
        outbound = Outbound(Path(folder), disk)
        outbound.set_desired(signed_by(new_desired(_STATE), _FLEET))
        job = new_order(_ORDER).id
        outbound.add_job(signed_by(new_order(_ORDER), _FLEET))
        dispatch = Dispatch(
            Path(folder), lambda _topic, _payload, *, retain: retain, disk=disk, utc_ns=lambda: 5
        )
        dispatch.step(0.0)

        def run(data: bytes) -> None:
            source = Bytes(data)
            mode = source.number()
            kind, name = (topics.JOB_STATUS, job) if mode & 1 else (topics.REPORTED, "")
            payload = source.rest().replace(b"JOB", job.encode())
            reason = dispatch.hear(NODE, kind, name, payload)
            if not reason:
                dispatch.step(0.5)

        yield run


def report_seeds() -> list[bytes]:
    error = {"code": "security.order_expired", "what": "x", "why": "y", "remedy": "z"}
    reported = wire.Reported(NODE, 1, "00" * 8, 5, 0, None, wire.Untaken("", error))
    statuses = [wire.JobStatus(NODE, "JOB", state, 5, error) for state in ("begun", "done")]
    return [
        b"\0" + msgspec.json.encode(reported),
        b"\0" + msgspec.json.encode(msgspec.structs.replace(reported, version=None)),
        *(b"\1" + msgspec.json.encode(status) for status in statuses),
    ]


TARGETS = (
    Target("orders", order_seeds, plain(_order)),
    Target("reports", report_seeds, _aggregator),
)
