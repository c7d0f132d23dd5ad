"""Orders to erase: two different signers, for this node, now, once; everything else has its own refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core.errors import BrainforgeError, ExitStatus, SecurityError
from brainforge_edge.fleet.orders import ORDERS_FILE, Orders
from brainforge_edge.security.order import (
    EARLY_NS,
    EraseOrder,
    OrderFile,
    Signature,
    Signers,
    new_order,
    read_order_file,
    signed_by,
    statement,
)
from brainforge_edge.security.sign import Signer, make_signer, read_signer
from tests.unit.erasure_material import DAY_NS, NODE, NOW_NS, order
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.sealed_material import DISK

LOG = "00" * 16


def signer() -> Signer:
    return read_signer(make_signer()[0], "test")


FLEET, CLINICIAN, CLINICIAN_2, STRANGER = signer(), signer(), signer(), signer()
KNOWN = Signers(
    [("fleet", FLEET.public), ("clinician", CLINICIAN.public), ("clinician", CLINICIAN_2.public)]
)


def signed(said: EraseOrder, *signers: Signer) -> OrderFile:
    file = new_order(said)
    for each in signers:
        file = signed_by(file, each)
    return file


def unchecked(said: EraseOrder, *signers: Signer) -> OrderFile:
    """As one that another program made and signed."""
    file = OrderFile(msgspec.json.encode(said).decode())
    for each in signers:
        file = signed_by(file, each)
    return file


def begin(root: Path, file: OrderFile, **options: Any) -> EraseOrder:
    usual: dict[str, Any] = {"node": NODE, "log_id": LOG, "utc_ns": NOW_NS + 1}
    return Orders(root, KNOWN, DISK).begin(file, **(usual | options))


def test_an_order_that_two_signed_is_taken_and_carried_from_file_to_file(tmp_path: Path) -> None:
    file = signed(order(), FLEET, CLINICIAN)
    carried = read_order_file(msgspec.json.encode(file))
    assert begin(tmp_path, carried) == order()
    assert begin(tmp_path / "other", signed(order(), CLINICIAN_2, FLEET)) == order()


def changed(file: OrderFile) -> OrderFile:
    return msgspec.structs.replace(file, body=file.body.replace('"p2"', '"p3"'))


def doubled(file: OrderFile) -> OrderFile:
    return msgspec.structs.replace(file, signatures=file.signatures * 2)


def garbled(file: OrderFile) -> OrderFile:
    last = file.signatures[-1]
    forged = Signature(last.signer, bytes(64))
    return msgspec.structs.replace(file, signatures=(*file.signatures[:-1], forged))


REFUSED: dict[str, tuple[str, Callable[[], OrderFile], dict[str, Any]]] = {
    "nobody signed": ("order_signer_missing", lambda: signed(order()), {}),
    "one signed": ("order_signer_missing", lambda: signed(order(), FLEET), {}),
    "the other one alone": ("order_signer_missing", lambda: signed(order(), CLINICIAN), {}),
    "two of one role": (
        "order_signer_missing", lambda: signed(order(), CLINICIAN, CLINICIAN_2), {},
    ),
    "the same one twice": ("order_signed_twice", lambda: doubled(signed(order(), FLEET)), {}),
    "a stranger": ("order_unknown_signer", lambda: signed(order(), FLEET, STRANGER), {}),
    "a third who is a stranger": (
        "order_unknown_signer", lambda: signed(order(), FLEET, CLINICIAN, STRANGER), {},
    ),
    "another participant": ("order_forged", lambda: changed(signed(order(), FLEET, CLINICIAN)), {}),
    "no signature": ("order_forged", lambda: garbled(signed(order(), FLEET, CLINICIAN)), {}),
    "another box": (
        "order_for_another", lambda: signed(order(nodes=("bed-2",)), FLEET, CLINICIAN), {},
    ),
    "another log": (
        "order_for_another", lambda: signed(order(log_ids=("11" * 16,)), FLEET, CLINICIAN), {},
    ),
    "expired": (
        "order_expired", lambda: signed(order(), FLEET, CLINICIAN), {"utc_ns": NOW_NS + DAY_NS},
    ),
    "no time yet": ("order_time_unknown", lambda: signed(order(), FLEET, CLINICIAN), {"utc_ns": None}),
    "a clock that is behind": (
        "order_not_yet", lambda: signed(order(), FLEET, CLINICIAN), {"utc_ns": NOW_NS - EARLY_NS - 1},
    ),
    "no statement": (
        "order_unreadable",
        lambda: signed_by(signed_by(OrderFile('{"kind":"erase"}'), FLEET), CLINICIAN), {},
    ),
    "a statement of another kind": (
        "order_unknown_kind",
        lambda: signed_by(
            signed_by(
                OrderFile(new_order(order()).body.replace('"erase"', '"stimulate"')), FLEET
            ),
            CLINICIAN,
        ), {},
    ),
    "nobody in particular, and every recording": (
        "order_too_wide", lambda: unchecked(order(""), FLEET, CLINICIAN), {},
    ),
    "a reason that nobody reads": (
        "order_reason_long", lambda: unchecked(order(reason="x" * 501), FLEET, CLINICIAN), {},
    ),
    "what is no log id": (
        "order_log_id", lambda: unchecked(order(log_ids=("zz",)), FLEET, CLINICIAN), {},
    ),
    "a node that leads out of its folder": (
        "order_node", lambda: unchecked(order(nodes=(NODE, "../../x")), FLEET, CLINICIAN), {},
    ),
    "a node that is every node": (
        "order_node", lambda: unchecked(order(nodes=(NODE, "+")), FLEET, CLINICIAN), {},
    ),
    "a counter that nothing could follow": (
        "order_unreadable", lambda: unchecked(order(counter=2**63 - 1), FLEET, CLINICIAN), {},
    ),
    "a time before there were any": (
        "order_unreadable", lambda: unchecked(order(issued_utc_ns=-1), FLEET, CLINICIAN), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_any_other_order_is_refused_with_a_reason_and_costs_nothing(
    tmp_path: Path, case: str
) -> None:
    code, make, options = REFUSED[case]
    with pytest.raises(SecurityError) as caught:
        begin(tmp_path, make(), **options)
    assert caught.value.code == f"security.{code}"
    assert caught.value.why
    assert caught.value.remedy
    assert caught.value.exit_status is ExitStatus.SECURITY
    assert not (tmp_path / ORDERS_FILE).exists()
    begin(tmp_path, signed(order(), FLEET, CLINICIAN))


@pytest.mark.parametrize(
    "fields",
    [{"participant": ""}, {"reason": "x" * 501}, {"log_ids": ("zz",)}, {"nodes": ("a/b",)}],
)
def test_what_may_not_be_carried_out_is_not_made_either(fields: dict[str, Any]) -> None:
    said = msgspec.structs.replace(order(), **fields)
    with pytest.raises(SecurityError, match="this order is not a good one"):
        new_order(said)
    with pytest.raises(SecurityError, match="this order is not a good one"):
        statement(unchecked(said))


def test_a_signature_under_another_kind_of_statement_does_not_count(tmp_path: Path) -> None:
    file = signed(order(), FLEET)
    elsewhere = CLINICIAN.sign("receipt", file.body.encode())
    file = msgspec.structs.replace(
        file, signatures=(*file.signatures, Signature(elsewhere.signer, elsewhere.signature))
    )
    with pytest.raises(SecurityError) as caught:
        begin(tmp_path, file)
    assert caught.value.code == "security.order_forged"


def test_an_order_is_carried_out_once_and_no_older_one_after_it(tmp_path: Path) -> None:
    first, second = (signed(order(counter=n), FLEET, CLINICIAN) for n in (7, 8))
    orders = Orders(tmp_path, KNOWN, DISK)
    begin(tmp_path, second)
    orders.done(second)
    for file in (second, first, signed(order(counter=8, reason="other"), FLEET, CLINICIAN)):
        with pytest.raises(SecurityError) as caught:
            begin(tmp_path, file)
        assert caught.value.code == "security.order_replayed"
    begin(tmp_path, signed(order(counter=9), FLEET, CLINICIAN))


def test_an_order_that_was_cut_off_is_run_again_until_it_expires(tmp_path: Path) -> None:
    file = signed(order(counter=7), FLEET, CLINICIAN)
    begin(tmp_path, file)
    begin(tmp_path, signed(order(counter=8), FLEET, CLINICIAN))
    assert begin(tmp_path, file).counter == 7
    with pytest.raises(SecurityError) as caught:
        begin(tmp_path, file, utc_ns=NOW_NS + DAY_NS)
    assert caught.value.code == "security.order_expired"


def test_the_counter_is_on_the_disk_before_the_order_is_given_out(tmp_path: Path) -> None:
    """Killed at each call to the disk: an order that was given out is never taken for a new one."""
    file = signed(order(counter=7), FLEET, CLINICIAN)
    at = 0
    while True:
        root = tmp_path / str(at)
        root.mkdir()
        disk = FaultyDisk(at=at)
        given = False
        try:
            Orders(root, KNOWN, disk).begin(file, node=NODE, log_id=LOG, utc_ns=NOW_NS)
            given = True
        except Killed:
            pass
        if given:
            Orders(root, KNOWN, UnsyncedDisk()).done(file)
            with pytest.raises(SecurityError):
                begin(root, file)
            break
        assert begin(root, file)
        at += 1
    assert at > 2


def test_a_register_that_cannot_be_read_lets_no_order_pass(tmp_path: Path) -> None:
    (tmp_path / ORDERS_FILE).write_text("{")
    with pytest.raises(BrainforgeError) as caught:
        begin(tmp_path, signed(order(), FLEET, CLINICIAN))
    assert caught.value.code == "storage.orders_damaged"
    assert "counter" in caught.value.remedy


@pytest.mark.parametrize(
    "known",
    [
        [],
        [("fleet", FLEET.public)],
        [("clinician", CLINICIAN.public)],
        [("fleet", FLEET.public), ("clinician", FLEET.public)],
    ],
)
def test_one_signer_alone_is_never_enough_to_be_configured(known: Any) -> None:
    with pytest.raises(SecurityError) as caught:
        Signers(known)
    assert caught.value.code == "security.order_signers"


def test_nobody_signs_twice_and_no_order_is_for_everything_of_everybody() -> None:
    with pytest.raises(SecurityError) as caught:
        signed(order(), FLEET, FLEET)
    assert caught.value.code == "security.order_signed_twice"
    with pytest.raises(SecurityError) as caught:
        new_order(order(""))
    assert caught.value.code == "security.order_too_wide"
    new_order(order("", recordings=("rec-1",)))
