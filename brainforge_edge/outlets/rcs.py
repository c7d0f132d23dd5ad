"""LabRecorder's remote control: lines → commands. Pure, bounded, never raises on what comes.

Source: the section "Remote Control" of LabRecorder's README and its `src/tcpinterface.cpp`
(github.com/labstreaminglayer/App-LabRecorder): lines of text, each answered with `OK` and no line
end. Words in braces follow `filename`; a value may hold blanks, and a brace left open ends the line.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

MAX_LINE = 4096
MAX_NAME = 60  # a recording's name has at most 64; room for `-2`
_FIELD = re.compile(r"\{([a-z]+):([^{}]*)")
_WILDCARDS = {
    "%p": "participant", "%s": "session", "%b": "task", "%n": "run",
    "%a": "acquisition", "%m": "modality",
}  # fmt: skip
_PARTS = (
    ("participant", "sub"), ("session", "ses"), ("task", "task"), ("acquisition", "acq"),
    ("run", "run"), ("modality", ""),
)  # fmt: skip


class Verb(StrEnum):
    START = "start"
    STOP = "stop"
    UPDATE = "update"
    FILENAME = "filename"
    SELECT = "select"
    UNKNOWN = "unknown"


class Command(NamedTuple):
    verb: Verb
    fields: Mapping[str, str] = MappingProxyType({})


def parse(line: str) -> Command:
    """One line, without its end."""
    text = line.strip()
    for verb in (Verb.START, Verb.STOP, Verb.UPDATE):
        if text == verb:
            return Command(verb)
    word = text.split(maxsplit=1)[0] if text else ""
    if word == Verb.FILENAME:
        return Command(Verb.FILENAME, dict(_FIELD.findall(text)))
    if word == Verb.SELECT:
        return Command(Verb.SELECT)
    return Command(Verb.UNKNOWN)


def recording_name(fields: Mapping[str, str]) -> str:
    """A name for the box's recording from what `filename` said; "" if that is nothing.

    The template's last part with its wildcards filled in, else `sub-…-ses-…-task-…`. The root is
    the box's own affair. a–z, 0–9 and `-`, at most `MAX_NAME` characters.
    """
    template = fields.get("template", "")
    if template:
        stem = re.split(r"[/\\]", template.strip())[-1].rsplit(".", 1)[0]
        for mark, key in _WILDCARDS.items():
            stem = stem.replace(mark, fields.get(key, ""))
        return _slug(stem)
    named = [
        f"{prefix}-{fields[key]}" if prefix else fields[key]
        for key, prefix in _PARTS
        if fields.get(key)
    ]
    return _slug("-".join(named))


def _slug(text: str) -> str:
    words = re.split(r"[^a-z0-9]+", text.lower())
    return "-".join(filter(None, words))[:MAX_NAME].strip("-")
