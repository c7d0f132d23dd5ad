"""Protocol files: read, checked entry by entry. Runs in: agent process; tools.

The protocols that are shipped lie beside this file. The format is in docs/sessions.md.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import SessionError
from brainforge_edge.sessions.protocol import (
    MOST_SECONDS,
    Protocol,
    Text,
    Threshold,
    bad_protocol,
)
from brainforge_edge.sessions.schedule import unroll

MOST_BYTES = 64 * 1024
LEAST_SECONDS = 0.5
MOST_PHASES = 200
MOST_TIMES = 1000
MOST_TEXT = 500  # characters

_SHIPPED = Path(__file__).parent
_DOCS = "brainforge_edge/docs/sessions.md lists every key"


def shipped() -> tuple[str, ...]:
    """Names of the protocols that come with the program."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def load_protocol(name: str, folder: Path | None = None) -> Protocol:
    """The site's own protocol in `folder` (`NAME.toml`), else a shipped one; SessionError for an unknown name."""
    known = set(shipped())
    if folder is not None and folder.is_dir():
        own = {path.stem: path for path in folder.glob("*.toml")}
        if name in own:
            return read_protocol(own[name])
        known |= set(own)
    if name not in shipped():
        raise SessionError(
            "unknown_protocol",
            "no session was started",
            why=f"there is no protocol called {name[:64]!r}",
            remedy=f"Choose one of {', '.join(sorted(known))}",
        )
    return read_protocol(_SHIPPED / f"{name}.toml")


def read_protocol(path: Path) -> Protocol:
    """ConfigError `bad_protocol` names the entry and what to do."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise bad_protocol(
            str(path), str(error.strerror).lower(), "Name a file that this user may read"
        ) from error
    except UnicodeDecodeError as error:
        raise bad_protocol(str(path), "it is not UTF-8 text", "Save the file as UTF-8") from error
    return parse_protocol(text, str(path))


def parse_protocol(text: str, source: str) -> Protocol:
    """Check the text of a protocol; see `read_protocol`."""
    if len(text.encode()) > MOST_BYTES:
        raise bad_protocol(source, f"it is longer than {MOST_BYTES // 1024} KiB", "Shorten it")
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_protocol(
            source, f"it is not TOML: {str(error)[:200]}", "Correct the line that is named"
        ) from error
    try:
        protocol = msgspec.convert(table, Protocol)
    except (msgspec.ValidationError, OverflowError) as error:
        raise bad_protocol(source, str(error), f"Correct or delete that entry; {_DOCS}") from error
    for where, why, remedy in _wrong(protocol):
        raise bad_protocol(source, f"{where} {why}", remedy)
    unroll(protocol, source)  # what comes in which order shows what never ends or never comes
    return protocol


def _wrong(protocol: Protocol) -> Iterator[tuple[str, str, str]]:
    """Entries that a type alone cannot judge: where, why, what to do."""
    yield from _wrong_name("name", protocol.name)
    yield from _wrong_text("title", protocol.title)
    if not 1 <= len(protocol.phase) <= MOST_PHASES:
        yield (
            "phase", f"stands {len(protocol.phase)} times, allowed are 1 to {MOST_PHASES}",
            "Write a [[phase]] for each stretch of the session",
        )  # fmt: skip
    seen: dict[str, int] = {}
    for number, phase in enumerate(protocol.phase):
        at = f"phase[{number}]"
        yield from _wrong_name(f"{at}.name", phase.name)
        if phase.name == "end":
            yield f"{at}.name", "is 'end', which means the end of the protocol", "Choose another"
        if phase.name in seen:
            yield (
                f"{at}.name", f"is {phase.name!r}, as phase[{seen[phase.name]}] is called",
                "Give every phase a name of its own",
            )  # fmt: skip
        seen[phase.name] = number
        yield from _out_of(f"{at}.duration_s", phase.duration_s, LEAST_SECONDS, MOST_SECONDS)
        yield from _out_of(f"{at}.times", phase.times, 0, MOST_TIMES)
        yield from _wrong_text(f"{at}.instruction", phase.instruction)
    if protocol.threshold is not None:
        yield from _wrong_threshold(protocol.threshold)


def _wrong_threshold(threshold: Threshold) -> Iterator[tuple[str, str, str]]:
    yield from _wrong_name("threshold.feature", threshold.feature)
    for key, least, most in (
        ("percentile", 1.0, 99.0),
        ("window_s", 5.0, 600.0),
        ("every_s", 1.0, 600.0),
        ("least", -1e9, 1e9),
        ("most", threshold.least, 1e9),
        ("start", threshold.least, threshold.most),
        ("step", 1e-9, 1e9),
    ):
        yield from _out_of(f"threshold.{key}", getattr(threshold, key), least, most)


def _out_of(where: str, value: float, least: float, most: float) -> Iterator[tuple[str, str, str]]:
    if not least <= value <= most:  # nor is a NaN
        yield where, f"is {value:g}, allowed are {least:g} to {most:g}", "Correct that number"


def _wrong_name(where: str, name: str) -> Iterator[tuple[str, str, str]]:
    if not (0 < len(name) <= 64 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")):
        yield where, f"is {name[:80]!r}", "Use 1 to 64 of a-z, 0-9, - and _"


def _wrong_text(where: str, text: Text) -> Iterator[tuple[str, str, str]]:
    for key, value in (("key", text.key), ("text", text.text)):
        if not value.strip() or len(value) > MOST_TEXT or not value.isprintable():
            yield (
                f"{where}.{key}", "is empty, too long or not printable",
                f"Write one line of at most {MOST_TEXT} characters",
            )  # fmt: skip
