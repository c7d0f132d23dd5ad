"""Renews the box's certificate when it is time. Runs in: agent process, thread `renew`.

It may fail for as long as it likes: nothing waits for it, and it touches no recording. The uplink reads
the new files with its next connection. Without an address it looks and tells, and a person renews.
"""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from random import SystemRandom
from typing import Any, Final

from brainforge_edge.core import log
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.errors import BrainforgeError, SecurityError
from brainforge_edge.core.events import EventType
from brainforge_edge.core.httpaddress import http_address
from brainforge_edge.core.retry import backoff
from brainforge_edge.core.threads import Bell, named
from brainforge_edge.fleet.authority import exchange
from brainforge_edge.fleet.enrol import Enrolment, Installed
from brainforge_edge.fleet.sitekeys import Placed
from brainforge_edge.security.certificates import Certificate, common_name, day
from brainforge_edge.security.renewal import Renewal, renewal, renewal_time
from brainforge_edge.storage.files import Disk

Exchange = Callable[[bytes], bytes]  # a request's bytes → the answer's
Emit = Callable[[EventType, dict[str, Any]], None]

LOOK_S: Final = 60.0  # files may be changed by hand, and clocks be set
FIRST_S: Final = 5.0
MOST_S: Final = 900.0  # between two tries
# Between two new requests for refused ones: else a stranger who swallows answers and says no would have
# one certificate made after the other, until the authority gives no more.
FORGET_S: Final = 86_400.0
_LEAST_S = 1.0
_SHARE = 20  # a try is not put off by more than this part of what is left
_LAST = 0.15  # of its life: by then somebody is told
_QUIET = 0.05  # of its life: no renewal before, whatever two clocks make of a certificate
_NICE = 10
_STOP_S = 2.0


def renewer_of(config: EdgeConfig, disk: Disk, *, clock: Clock, emit: Emit) -> "Renewer":
    """As `[uplink.tls]` says; ConfigError where it is off."""
    enrolment, address = Enrolment(config, disk), http_address(config.uplink.tls.enrol)
    over_http = None if address is None else partial(exchange, address, ca=enrolment.ca)
    return Renewer(enrolment, over_http, clock=clock, random=SystemRandom().random, emit=emit)


class Renewer:
    """`start`, `stats`, `stop`; `look` is one round."""

    def __init__(
        self,
        enrolment: Enrolment,
        by: Exchange | None,
        *,
        clock: Clock,
        random: Callable[[], float],
        emit: Emit,
    ) -> None:
        """`by` None: nothing is renewed by itself. `random` gives 0 to 1."""
        self._enrolment = enrolment
        self._by = by
        self._clock = clock
        self._random = random
        self._emit = emit
        self._bell = Bell()
        self._over = threading.Event()
        self._thread = named("renew", self._run, daemon=True)
        self._delays = backoff(FIRST_S, MOST_S)
        self._next_ns = 0  # by the monotonic clock: no try before
        self._kept_until_ns = 0  # … and no new request for one that was refused
        self._failed: BrainforgeError | None = None  # the last try, since the last that did not
        self._done: Installed | None = None  # the last renewal
        self._told: set[tuple[int, EventType]] = set()  # serial number, what
        self._stats: dict[str, Any] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """At once: a try that waits for the network ends with the process."""
        self._over.set()
        self._bell.ring()
        self._thread.join(_STOP_S)

    def stats(self) -> dict[str, Any]:
        """For the heartbeat: `until`, `renewal` (its state), `by_itself`, `error` while there is one."""
        return self._stats

    def look(self) -> float:
        """Renew if it is time; the seconds until the next look."""
        try:
            self._enrolment.finish()
            own = self._enrolment.certificate()
        except BrainforgeError as unusable:
            self._show(None, Renewal.UNKNOWN, unusable)
            return LOOK_S
        now, wait_s = self._now(), LOOK_S
        state = renewal(own, now)
        if now is not None and state is Renewal.NOT_YET:
            wait_s = (renewal_time(own) - now).total_seconds()
        elif now is not None and self._by is not None and state in {Renewal.DUE, Renewal.EXPIRED}:
            own, wait_s = self._due(own, now, self._by)
            state = renewal(own, now)
        error = self._hindrance(own, now, state)
        self._warn(own, now, state, error)
        self._show(own, state, error)
        return min(LOOK_S, max(_LEAST_S, wait_s))

    def _due(self, own: Certificate, now: datetime, by: Exchange) -> tuple[Certificate, float]:
        """The certificate that is in use then, and the seconds until the next look.

        Also after it has expired: by another clock it may not have, or the answer to the last request
        was lost and is still to be had.
        """
        left_s = (self._next_ns - self._clock.monotonic_ns()) / 1e9
        if left_s > 0:
            return own, left_s
        try:
            keeps = self._clock.monotonic_ns() < self._kept_until_ns
            done = self._enrolment.now(None, by, keeps=keeps)
        except BrainforgeError as error:
            if isinstance(error, SecurityError) and not keeps:
                self._kept_until_ns = self._clock.monotonic_ns() + round(FORGET_S * 1e9)
            if self._failed is None or self._failed.code != error.code:
                log.get().warning("certificate not renewed", **error.as_dict())
            self._failed = error
            left_s = (own.not_valid_after_utc - now).total_seconds()
            most_s = max(_LEAST_S, left_s / _SHARE) if left_s > 0 else MOST_S
            wait_s = min(next(self._delays), most_s) * (0.5 + self._random())
            self._put_off(wait_s)
            return own, wait_s
        self._failed, self._delays = None, backoff(FIRST_S, MOST_S)
        self._done = done
        self._put_off(_QUIET * _life(done.certificate).total_seconds())
        said = {"until": done.certificate.not_valid_after_utc.isoformat(), "keys": done.keys}
        log.get().info("certificate renewed", **said)
        self._emit(EventType.CERTIFICATE_RENEWED, said)
        return done.certificate, _LEAST_S

    def _put_off(self, seconds: float) -> None:
        self._next_ns = self._clock.monotonic_ns() + round(seconds * 1e9)

    def _hindrance(
        self, own: Certificate, now: datetime | None, state: Renewal
    ) -> BrainforgeError | None:
        """What a person should know."""
        if state is Renewal.UNKNOWN:
            return _no_clock(own, now)
        if state is Renewal.EXPIRED:
            return _expired(own, self._failed)
        return self._failed if state is Renewal.DUE else self._left_out()

    def _left_out(self) -> BrainforgeError | None:
        """Keys of the site that the last renewal did not put in place, and that do not stand since."""
        if self._done is None or self._done.error is not None:
            return self._done and self._done.error
        if Placed.DIFFERS not in self._done.keys.values():
            return None
        try:
            others = self._enrolment.differing(self._done.given)
        except BrainforgeError as error:
            return error
        return _differs(others) if others else None

    def _warn(
        self,
        own: Certificate,
        now: datetime | None,
        state: Renewal,
        error: BrainforgeError | None,
    ) -> None:
        """Once for each certificate."""
        if now is None or state in {Renewal.UNKNOWN, Renewal.NOT_YET}:
            return
        is_over = state is Renewal.EXPIRED
        if not is_over and own.not_valid_after_utc - now > _LAST * _life(own):
            return
        event = EventType.CERTIFICATE_EXPIRED if is_over else EventType.CERTIFICATE_EXPIRING
        if (own.serial_number, event) in self._told:
            return
        self._told = {(own.serial_number, event)}
        said = {"until": own.not_valid_after_utc.isoformat(), "why": error.why if error else ""}
        log.get().warning(event.value, **said)
        self._emit(event, said)

    def _show(self, own: Certificate | None, state: Renewal, error: BrainforgeError | None) -> None:
        self._stats = {
            "until": None if own is None else own.not_valid_after_utc.isoformat(),
            "renewal": state.value,
            "by_itself": self._by is not None,
            "error": None if error is None else error.as_dict(),
        }

    def _now(self) -> datetime | None:
        utc_ns = self._clock.utc_ns()
        return None if utc_ns is None else datetime.fromtimestamp(utc_ns / 1e9, UTC)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # of this thread alone
        while not self._over.is_set():
            try:
                wait_s = self.look()
            except Exception as error:  # noqa: BLE001 - the thread's outermost loop: it goes on, and says so
                log.get().exception("renewal failed")
                self._stats = {**self._stats, "error": _broken(error).as_dict()}
                wait_s = LOOK_S
            self._bell.wait(wait_s)


def _life(certificate: Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def _no_clock(own: Certificate, now: datetime | None) -> SecurityError:
    since = day(own.not_valid_before_utc)
    if now is None:
        code, why = "clock_unknown", "the clock of this box was never set"
    else:
        code = "clock_before_certificate"
        why = f"it is valid from {since}, and the clock here says {day(now)}"
    return SecurityError(
        code,
        "the certificate is not renewed",
        why=why,
        remedy="Set the clock: renewal goes on by itself then",
    )


def _expired(own: Certificate, failed: BrainforgeError | None) -> SecurityError:
    tried = f", and the last try to renew it failed: {failed.why}" if failed else ""
    return SecurityError(
        "certificate_expired",
        f"the certificate of {common_name(own)} is not taken any more",
        why=f"it expired on {day(own.not_valid_after_utc)}{tried}",
        remedy="Enrol the box with a token: brainforge-edge enrol now --token-file; recording goes on meanwhile",
    )


def _differs(roles: list[str]) -> SecurityError:
    return SecurityError(
        "site_key_differs",
        f"the site's key was left as it is here: {', '.join(roles)}",
        why="the authority gives out another one, and a renewal replaces no key",
        remedy="If the site changed it, enrol the box with a token: brainforge-edge enrol now --token-file; else look who changed it at the authority",
    )


def _broken(error: Exception) -> SecurityError:
    return SecurityError(
        "renewal",
        "the certificate is not renewed",
        why=f"the thread that does it failed ({type(error).__name__})",
        remedy="Report what the log says; brainforge-edge enrol now --renew does the same by hand",
    )
