"""Errors as RFC 9457 problems, with `fix`: what to do. Runs in: web process."""

from typing import Final

import msgspec

from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.web.logins import Person

MEDIA_TYPE: Final = "application/problem+json"

# What a family means to a caller, unless the code itself says more.
_OF_FAMILY: Final = {
    "config": 400,
    "device": 502,
    "storage": 503,
    "transport": 502,
    "security": 403,
    "session": 409,
    "fleet": 502,
    "cloud": 502,
    "daemon": 503,
}
_OF_CODE: Final = {
    "config.unknown_device": 404,
    "device.command_unanswered": 504,
    "daemon.silent": 504,
    "session.bad_request": 400,
    "session.busy": 503,
    "session.unknown_verb": 501,
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """`code` is stable and for machines; `detail` says why, `fix` what to do, for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    fix: str
    transient: bool = False


def problem(
    status: int, code: str, title: str, *, detail: str, fix: str, transient: bool = False
) -> Problem:
    """One of ours that the daemon never heard of."""
    return Problem(
        type=f"urn:brainforge:error:{code}",
        title=title,
        status=status,
        code=code,
        detail=detail,
        fix=fix,
        transient=transient,
    )


def of_error(error: BrainforgeError) -> Problem:
    """What the daemon, or the way to it, said."""
    status = _OF_CODE.get(error.code, _OF_FAMILY.get(error.family, 500))
    return problem(
        status,
        error.code,
        error.what,
        detail=error.why,
        fix=error.remedy,
        transient=error.transient,
    )


def not_allowed(person: Person) -> Problem:
    """A viewer asked for a change."""
    return problem(
        403,
        "web.not_allowed",
        "the request was refused",
        detail=f"{person.name} may look, and change nothing",
        fix="Log in as somebody who operates the box",
    )


def invalid(why: str) -> Problem:
    """A key or value of a request does not fit."""
    title, fix = "the request was not understood", "Send one JSON object as /openapi.json has it"
    return problem(400, "web.invalid", title, detail=why, fix=fix)
