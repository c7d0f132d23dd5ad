"""Boxes that are wrong where a killed process shows it: each must be caught by `kill9`.

Two faults are for other campaigns, since no kill can show them. A store that does not look for what it
has stores nothing twice here: a box that comes back asks what is stored before it sends (`flap`, where
messages are doubled, finds it). Stale rows of an earlier lap of the journal lie in segments already, and
recovery leaves out what does (`bitrot --mutant stale-lap` finds them where a sector was misdirected).

name → (the argument by which the process is known, what is patched into it)
"""

from tests.faults.mutants import ACQUIRE

# A write that takes long, so that a kill finds the box in it.
WRITTEN_FIRST = """
    import time
    from brainforge_edge.acquisition.record import Record
    write = Record._write
    def early(self, part, upto):
        if part.stream.ring.written < upto:
            part.stream.ring.set_written(upto)
        time.sleep(0.03)
        return write(self, part, upto)
    Record._write = early
"""
GAPS_ZEROED = """
    from brainforge_edge.recorder import cut
    record = cut.gap_record
    def zeroed(gap):
        return [0, *record(gap)[1:]]
    cut.gap_record = zeroed
"""
JOURNAL_LEFT = """
    from brainforge_edge.recorder import recover
    recover.uncovered_pieces = lambda *arguments: iter(())
"""
MUTANTS = {
    "written-first": (ACQUIRE, WRITTEN_FIRST),
    "gaps-zeroed": (ACQUIRE, GAPS_ZEROED),
    "journal-left": (ACQUIRE, JOURNAL_LEFT),
}
