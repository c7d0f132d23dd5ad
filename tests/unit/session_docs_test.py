"""The page about sessions says what there is: codes, causes, keys, and an example that is taken."""

import re

import msgspec
import pytest

from brainforge_edge.sessions.machine import _HINTS, FAULTS, TRANSITIONS, Cause, State
from brainforge_edge.sessions.preflight import _CODES, Facts, preflight
from brainforge_edge.sessions.protocol import Phase, Threshold
from brainforge_edge.sessions.protocolfile import parse_protocol, shipped
from brainforge_edge.sessions.schedule import schedule_of
from tests.structure.tree import DOCS, PACKAGE

PAGE = (DOCS / "sessions.md").read_text(encoding="utf-8")


def raised() -> set[str]:
    found = {code for code, _, _ in _HINTS.values()} | set(_CODES.values())
    for path in (PACKAGE / "sessions").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r'SessionError\(\s*"([a-z_]+)"', text))
        found |= set(re.findall(r'\bcode(?:, why, remedy)? = \(?"([a-z_]+)"', text))
        found |= set(re.findall(r'_CODES\.get\(check\.name, "([a-z_]+)"\)', text))
    return found


def test_every_code_is_explained_and_no_other() -> None:
    assert (
        set(re.findall(r"^\| `([a-z_]+)` \| [^|]+ \|$", PAGE.split("## Errors")[1], re.MULTILINE))
        == raised()
    )


@pytest.mark.parametrize("word", [*Cause, *(state.value.upper() for state in State), *shipped()])
def test_every_state_cause_and_protocol_is_named(word: str) -> None:
    assert word in PAGE


def test_the_table_of_transitions_is_the_machines() -> None:
    told: dict[str, dict[str, set[str]]] = {}
    lines = re.findall(r"^\| (`.*?) \| ([A-Z, ]+) \| ([A-Z, ]+) \|$", PAGE, re.MULTILINE)
    for first, before, after in lines:
        for cause in re.findall(r"`([a-z_]+)`", first.split(":")[0].split(", where")[0]):
            told[cause] = {
                state.lower(): set(after.lower().split(", ")) for state in before.split(", ")
            }
    assert told.pop("saved") == {"saving": {"idle", "failed"}}
    assert told == {
        cause.value: {before.value: {after.value} for before, after in steps.items()}
        for cause, steps in TRANSITIONS.items()
        if cause is not Cause.SAVED
    }
    (fault_line,) = re.findall(r"`saved`: FAILED after (.*?) \|", PAGE)
    assert re.findall(r"`([a-z_]+)`", fault_line) == [each.value for each in FAULTS]


def test_every_check_is_explained() -> None:
    facts = Facts(devices={"a": "p1", "b": "p1"}, links={"a": "streaming"}, consents={})
    for check in preflight(facts):
        assert f"| `{check.name}` |" in PAGE


def test_every_key_of_a_protocol_is_explained() -> None:
    fields: dict[str, type[msgspec.Struct]] = {"phase": Phase, "threshold": Threshold}
    for table, section in fields.items():
        for name in section.__struct_fields__:
            assert f"`{table}.{name}`" in PAGE, f"{table}.{name}"


def test_the_example_is_a_protocol() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert schedule_of(parse_protocol(example, "docs/sessions.md")).end_ns == 180_000_000_000
