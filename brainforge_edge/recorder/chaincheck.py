"""Whether a recording is what its chain says: nothing removed, replaced or changed but what was freed. Runs in: `brainforge-edge verify`."""

from dataclasses import dataclass, field

from brainforge_edge.recorder.catalog import RecordingEntry
from brainforge_edge.recorder.chain import NO_HEAD
from brainforge_edge.recorder.digest import FileDigest, file_digest
from brainforge_edge.recorder.freed import Evidence, Freed, judged, read_gone
from brainforge_edge.recorder.signers import Verifiers
from brainforge_edge.storage.files import Disk


@dataclass(slots=True)
class ChainAccount:
    """What the chain came to; empty where there is none."""

    head: bytes = NO_HEAD
    segments: int = 0
    holds: bool = True  # each head follows from the one before it
    freed: dict[str, list[Freed]] = field(default_factory=dict)  # stream id → gone, with evidence
    unchained: list[str] = field(
        default_factory=list
    )  # segments of a closed recording that are not in it yet
    problems: list[str] = field(default_factory=list)


def check_chain(recording: RecordingEntry, verifiers: Verifiers, disk: Disk) -> ChainAccount:
    """Reads every chained segment once."""
    folder = recording.folder
    evidence = Evidence(folder, disk, verifiers)
    account = ChainAccount(holds=evidence.holds, segments=len(evidence.entries))
    if evidence.entries:
        account.head = evidence.entries[-1].head
    if not evidence.holds:
        account.problems.append("the chain does not hold: a line of it was changed, or is missing")
    here = {
        (stream_id, path.name): path
        for stream_id, paths in recording.streams.items()
        for path in paths
    }
    gone = {
        (each.freed.stream_id, each.freed.segment): each
        for each in judged(read_gone(folder, disk), evidence)
    }
    for entry in evidence.entries:
        name = (entry.stream_id, entry.segment)
        if name in here:
            if file_digest(here[name], disk) != FileDigest(entry.size, entry.sha256):
                account.problems.append(
                    f"{here[name]} is not the file that was closed: its digest differs"
                )
        elif name not in gone:
            account.problems.append(f"{folder / '/'.join(name)} is in the chain and not here")
    for each in gone.values():
        line = each.freed
        if each.fault:
            path = folder / line.stream_id / line.segment
            account.problems.append(f"{path} was freed without evidence: {each.fault}")
        else:
            account.freed.setdefault(line.stream_id, []).append(line)
    if recording.is_closed and evidence.entries:
        known = {(entry.stream_id, entry.segment) for entry in evidence.entries}
        account.unchained = sorted("/".join(name) for name in here.keys() - known)
    return account
