"""What is wrong with a dataset by the BIDS schema itself: names of files, keys and values of sidecars, tables.

The schema is the specification's own, as a package; which rule is for which file is said here for the
four modalities, since the schema says it in a language of its own.
"""

import csv
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import bidsschematools.rules
import bidsschematools.schema

_MODALITIES = ("eeg", "meg", "nirs", "motion")


@cache
def _schema() -> tuple[tuple[re.Pattern[str], ...], Any]:
    schema = bidsschematools.schema.load_schema()
    rules = bidsschematools.rules.regexify_all()[0]
    return tuple(re.compile(rule["regex"]) for rule in rules), schema


def faults(dataset: Path) -> list[str]:
    """In sentences; dot files are none of the dataset."""
    found = []
    for path in sorted(dataset.rglob("*")):
        name = path.relative_to(dataset).as_posix()
        if path.is_dir() or name.startswith("."):
            continue
        if not any(rule.fullmatch(name) for rule in _schema()[0]):
            found.append(f"{name}: no file of a dataset")
        datatype, suffix = path.parent.name, path.stem.rpartition("_")[2]
        if path.suffix == ".json":
            fields = json.loads(path.read_text(encoding="utf-8"))
            found += [f"{name}: {fault}" for fault in _of_values(fields)]
            found += [f"{name}: no {key}" for key in _required(datatype, suffix) - set(fields)]
        elif path.suffix == ".tsv" and suffix != "motion":
            found += [f"{name}: {fault}" for fault in _of_table(path, datatype, suffix)]
    return found


def _of_values(fields: dict[str, Any]) -> list[str]:
    known: dict[str, list[Any]] = {}  # a key may mean one thing in one file and another in another
    for rule in _schema()[1].objects.metadata.values():
        known.setdefault(rule["name"], []).append(rule)
    return [
        f"{key} cannot be {value!r}"
        for key, value in fields.items()
        if key in known and not any(_fits(value, rule) for rule in known[key])
    ]


def _fits(value: Any, rule: Any) -> bool:
    if "anyOf" in rule:
        return any(_fits(value, each) for each in rule["anyOf"])
    kinds: dict[str, Any] = {
        "number": (int, float),
        "integer": int,
        "string": str,
        "boolean": bool,
        "array": list,
    }
    kind = rule.get("type")
    if kind in kinds and not isinstance(value, kinds[kind]):
        return False
    if kind == "number" and not value > rule.get("exclusiveMinimum", float("-inf")):
        return False
    return "enum" not in rule or value in list(rule["enum"])


def _required(datatype: str, suffix: str) -> set[str]:
    schema = _schema()[1]
    rules: dict[str, Any] = {}
    if suffix == "description":
        rules = {"dataset": schema.rules.json.dataset.dataset_description}
    elif suffix == datatype and datatype in _MODALITIES:
        rules = dict(schema.rules.sidecars[datatype])
    elif suffix == "coordsystem":
        rules = {"coordsystem": schema.rules.json[datatype].CoordinateSystem}
    found = set()
    for rule in rules.values():
        for key, level in rule.get("fields", {}).items():
            if (level if isinstance(level, str) else level.get("level")) == "required":
                found.add(schema.objects.metadata[key]["name"])
    return found


def _of_table(path: Path, datatype: str, suffix: str) -> list[str]:
    schema = _schema()[1]
    with path.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    found = [f"a row of {len(line)}" for line in lines if len(line) != len(head)]
    rules = schema.rules.tabular_data
    table = {
        "participants": rules.modality_agnostic.Participants,
        "scans": rules.modality_agnostic.Scans,
        "events": rules.events.Events,
        "channels": rules.get(datatype, {}).get(
            {"eeg": "EEGChannels", "meg": "MEGChannels"}.get(datatype, f"{datatype}Channels")
        ),
        "optodes": rules.nirs.nirsOptodes,
    }[suffix]
    first = [schema.objects.columns[key]["name"] for key in table.get("initial_columns", [])]
    if head[: len(first)] != first:
        found.append(f"columns begin with {head[: len(first)]}, not {first}")
    for key, level in table["columns"].items():
        rule = schema.objects.columns[key]
        if (level if isinstance(level, str) else level.get("level")) == "required" and rule[
            "name"
        ] not in head:
            found.append(f"no column {rule['name']}")
        if rule["name"] not in head or not (
            {"enum", "pattern"} & set(rule) or rule.get("type") == "number"
        ):
            continue
        for line in lines:
            value = line[head.index(rule["name"])]
            if not _is_cell(value, rule):
                found.append(f"{rule['name']} cannot be {value!r}")
    return found


def _is_cell(value: str, rule: Any) -> bool:
    if value == "n/a":
        return True
    if rule.get("type") == "number":
        return re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", value) is not None
    if "pattern" in rule and re.fullmatch(rule["pattern"], value) is None:
        return False
    return "enum" not in rule or value in list(rule["enum"])
