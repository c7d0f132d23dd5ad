"""Labels of BIDS entities, which are letters and digits alone. Runs in: `brainforge-edge export`.

A pseudonym becomes a label without its hyphens. The dataset's `participants.tsv` lists both, so that
one label stands for one pseudonym.
"""

import re

from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.bids.table import ABSENT, Table

PARTICIPANT, PSEUDONYM = "participant_id", "pseudonym"
_DROPPED = re.compile(r"[-_. ]")
_LABEL = re.compile(r"[A-Za-z0-9]+")


def label(text: str, what: str) -> str:
    """StorageError `bad_label` for what has other characters than those that are left out."""
    found = _DROPPED.sub("", text)
    if not _LABEL.fullmatch(found):
        raise StorageError(
            "bad_label",
            f"{what} {text!r} cannot be named in a BIDS dataset",
            why="BIDS names have letters a-z and digits alone; hyphens are left out, nothing else",
            remedy="Choose another name for it",
        )
    return found


def subject(pseudonym: str, participants: Table) -> str:
    """`sub-…` of a participant; StorageError `label_taken` where it stands for another one there."""
    name = f"sub-{label(pseudonym, 'participant')}"
    for taken, whose in zip(
        participants.column(PARTICIPANT), participants.column(PSEUDONYM), strict=True
    ):
        known = taken.removeprefix("sub-") if whose == ABSENT else whose
        if taken.casefold() == name.casefold() and known != pseudonym:
            raise StorageError(
                "label_taken",
                f"participant {pseudonym!r} cannot be named in this BIDS dataset",
                why=f"{taken} is {known!r} there, and only letters and digits tell them apart",
                remedy="Export one of the two to another folder",
            )
    return name


def distinct(names: list[str], what: str) -> dict[str, str]:
    """A label for each name; where two would be the same, the later one in the alphabet is numbered."""
    found: dict[str, str] = {}
    for name in sorted(names):
        plain = label(name, what)
        taken = {each.casefold() for each in found.values()}
        numbered = (f"{plain}x{n}" for n in range(2, len(names) + 2))
        free = plain if plain.casefold() not in taken else next(
            each for each in numbered if each.casefold() not in taken
        )  # fmt: skip
        found[name] = free
    return found
