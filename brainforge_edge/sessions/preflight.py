"""Whether a session may start, and what to do where it may not. Pure: facts in, checks out. Runs in: agent process."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from brainforge_edge.core.errors import SessionError
from brainforge_edge.sessions.protocol import Text

GOOD_SHARE = 0.8  # of a device's channels


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Check(NamedTuple):
    """One look. `about` is a device or a participant, "" for the box."""

    name: str
    outcome: Outcome
    about: str
    reason: Text
    remedy: Text | None  # what to do; None where nothing is
    is_needed: bool  # unless it passed no session starts


class Channels(NamedTuple):
    """How many of a device's channels are good."""

    good: int
    n: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the box now; None and absence mean: not known."""

    devices: Mapping[str, str]  # device → participant, of the session that is asked for
    consents: Mapping[str, bool] = {}  # what participants said last
    links: Mapping[str, str] = {}  # state of each device of the box, as in `status`
    channels: Mapping[str, Channels] = {}
    records: bool = True  # the session writes to the disk
    free_bytes: int | None = None  # beyond the reserve
    bytes_s: float | None = None  # that the devices record
    duration_s: float = 0.0
    disk_refuses: bool | None = None  # no recording may begin on a disk this full
    utc_known: bool | None = None
    is_watched: bool = False  # the safety monitor is alive
    latched_by: str = ""  # who pressed the emergency stop


def preflight(facts: Facts) -> tuple[Check, ...]:
    """Every check, in the order in which a person goes through them."""
    return (
        *_consents(facts),
        *_devices(facts),
        *_quality(facts),
        *_disk(facts),
        _clock(facts),
        _monitor(facts),
        _latch(facts),
    )


def refuse_unfit(checks: Sequence[Check]) -> None:
    """SessionError `not_fit` or the check's own code, for the first that is needed and did not pass."""
    for check in checks:
        if check.is_needed and check.outcome is not Outcome.PASSED:
            others = [each.name for each in checks if each.is_needed and each is not check]
            raise SessionError(
                _CODES.get(check.name, "not_fit"), "no session was started",
                why=check.reason.text.rstrip("."),
                remedy=(check.remedy.text if check.remedy else "Try again").rstrip("."),
                check=check.name, about=check.about, outcome=check.outcome, others=len(others),
            )  # fmt: skip


_CODES = {"consent": "no_consent", "device": "unknown_device", "latch": "emergency_stop"}


def _check(
    name: str, outcome: Outcome, why: str, text: str, remedy: str = "", *,
    about: str = "", is_needed: bool = True,
) -> Check:  # fmt: skip
    key = f"preflight.{name}.{why}"
    then = Text(key=f"{key}.remedy", text=remedy) if remedy else None
    return Check(name, outcome, about, Text(key=key, text=text), then, is_needed)


def _consents(facts: Facts) -> Iterator[Check]:
    for who in sorted(set(facts.devices.values())):
        said = facts.consents.get(who)
        if said:
            yield _check("consent", Outcome.PASSED, "given", f"{who} has agreed.", about=who)
        elif said is None:
            yield _check(
                "consent", Outcome.FAILED, "missing", f"No consent of {who} is noted.",
                "Ask the participant, and note the consent.", about=who,
            )  # fmt: skip
        else:
            yield _check(
                "consent", Outcome.FAILED, "withdrawn", f"{who} has withdrawn the consent.",
                "Do not record. Only if the participant agrees again, note it.", about=who,
            )  # fmt: skip


def _devices(facts: Facts) -> Iterator[Check]:
    for device in facts.devices:
        link = facts.links.get(device)
        if link is None:
            yield _check(
                "device", Outcome.FAILED, "unknown", f"This box has no device called {device}.",
                "Choose a device from the list.", about=device,
            )  # fmt: skip
        elif link == "streaming":
            yield _check("link", Outcome.PASSED, "streaming", f"{device} sends.", about=device)
        elif link == "degraded":
            yield _check(
                "link", Outcome.FAILED, "degraded", f"{device} sends with interruptions.",
                "Bring it nearer to the box, and charge it.", about=device, is_needed=False,
            )  # fmt: skip
        else:
            yield _check(
                "link", Outcome.FAILED, "silent", f"{device} does not send yet.",
                "Switch it on, and keep it near the box; the session waits for it.",
                about=device, is_needed=False,
            )  # fmt: skip


def _quality(facts: Facts) -> Iterator[Check]:
    for device in facts.devices:
        channels = facts.channels.get(device)
        if channels is None or channels.n <= 0:
            yield _check(
                "quality", Outcome.UNKNOWN, "unknown",
                f"The contact of {device} was not measured yet.",
                "Wait some seconds after it is put on.", about=device, is_needed=False,
            )  # fmt: skip
        elif channels.good >= GOOD_SHARE * channels.n:
            yield _check(
                "quality", Outcome.PASSED, "good",
                f"{channels.good} of {channels.n} channels of {device} are good.",
                about=device, is_needed=False,
            )  # fmt: skip
        else:
            yield _check(
                "quality", Outcome.FAILED, "poor",
                f"Only {channels.good} of {channels.n} channels of {device} are good.",
                "Seat it again, and moisten the electrodes.", about=device, is_needed=False,
            )  # fmt: skip


def _disk(facts: Facts) -> Iterator[Check]:
    if not facts.records:
        return
    if facts.disk_refuses is None or facts.free_bytes is None:
        yield _check(
            "disk", Outcome.UNKNOWN, "unknown", "The disk was not looked at yet.",
            "Wait some seconds; if it stays so, call the technician.",
        )  # fmt: skip
    elif facts.disk_refuses or facts.free_bytes <= 0:
        yield _check(
            "disk", Outcome.FAILED, "full", "The disk is too full for a recording.",
            "Let the box deliver what it holds, or call the technician.",
        )  # fmt: skip
    elif facts.bytes_s is None:
        yield _check(
            "disk", Outcome.PASSED, "room", "The disk has room; for how long is not known yet."
        )
    elif facts.free_bytes < facts.bytes_s * facts.duration_s:
        hours = facts.free_bytes / facts.bytes_s / 3600
        yield _check(
            "disk", Outcome.FAILED, "short", f"The disk has room for {hours:.1f} hours only.",
            "Choose a shorter session, or let the box deliver what it holds.",
        )  # fmt: skip
    else:
        yield _check("disk", Outcome.PASSED, "room", "The disk has room for the session.")


def _clock(facts: Facts) -> Check:
    if facts.utc_known:
        return _check("clock", Outcome.PASSED, "known", "The time is known.", is_needed=False)
    outcome = Outcome.UNKNOWN if facts.utc_known is None else Outcome.FAILED
    return _check(
        "clock", outcome, "unset", "The box does not know the date yet.",
        "Go on: the recording gets its date as soon as the box learns it.", is_needed=False,
    )  # fmt: skip


def _monitor(facts: Facts) -> Check:
    if facts.is_watched:
        return _check("monitor", Outcome.PASSED, "alive", "The safety monitor is running.")
    return _check(
        "monitor", Outcome.FAILED, "silent", "The safety monitor is not running.",
        "Wait some seconds; if it stays so, restart the box.",
    )  # fmt: skip


def _latch(facts: Facts) -> Check:
    if not facts.latched_by:
        return _check("latch", Outcome.PASSED, "open", "No emergency stop is in force.")
    return _check(
        "latch", Outcome.FAILED, "latched", "The emergency stop is in force.",
        "Look after the participant, then release the emergency stop.",
    )  # fmt: skip
