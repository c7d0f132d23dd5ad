"""The emulator's own account: every dropped sample once, in order, in a file that is always whole."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.pty import DeviceFifo


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=20))
def test_dropped_spans_are_the_union_of_what_was_told(told: list[tuple[int, int]]) -> None:
    run = Run("r", 0)
    for first, n in told:
        run.drop(first, n)
    union = {sample for first, n in told for sample in range(first, first + n)}
    listed = [sample for first, n in run.dropped for sample in range(first, first + n)]
    assert listed == sorted(union)


def test_the_file_names_every_run_and_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger = Ledger(path, kind="opm", seed=1)
    ledger.start("a", 1).rows = 80
    second = ledger.start("b", 2)
    second.rows = 16
    second.drop(8, 8)
    ledger.write()
    assert json.loads(path.read_text())["final"] is False
    ledger.write(is_final=True)
    fields = json.loads(path.read_text())
    assert fields["final"]
    assert fields["emitted"] == 96
    assert fields["dropped"] == [[8, 8]]
    assert [run["emitted"] for run in fields["runs"]] == [80, 16]
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_memory_refuses_samples_but_never_an_answer() -> None:
    fifo = DeviceFifo(100)
    assert fifo.put(bytes(60), first=0, rows=8)
    assert not fifo.put(bytes(60), first=8, rows=8)
    assert fifo.put(bytes(60))
    assert fifo.high_water == 120
    assert fifo.clear() == [(0, 0, 8)]
    assert not fifo
    assert fifo.level == 0
