"""SystemEvent: something the system did. Made only by `root`; `after` joins it to what led to it."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.ids import ulid


class EventType(StrEnum):
    PATIENT_REGISTERED = "patient.registered"
    SESSION_STARTED = "session.started"
    SESSION_COMPLETED = "session.completed"
    DEVICE_CONNECTED = "device.connected"
    DEVICE_DISCONNECTED = "device.disconnected"
    DEVICE_BOUND = "device.bound"  # a name has an identity from now on
    DEVICE_REFUSED = "device.refused"  # another identity answers under a name
    DEVICE_STATE_CHANGED = "device.state_changed"  # start-up, zeroing, calibration, fault
    LINK_CHANGED = "link.changed"  # searching, connecting, streaming, degraded, lost
    QUALITY_ALERT = "signal.quality_alert"
    EMERGENCY_STOP = "safety.emergency_stop"
    EMERGENCY_RELEASED = "safety.emergency_released"
    INFERENCE_COMPLETED = "model.inference_completed"
    LEDGER_RECORDED = "ledger.event_recorded"
    AUTHENTICATION_FAILED = "security.authentication_failed"
    HEALTH_CHECK = "system.health_check"
    STREAM_OPENED = "stream.opened"
    STREAM_GAP = "stream.gap"
    CLOCK_STEPPED = "clock.stepped"
    SEGMENT_CLOSED = "segment.closed"
    LOG_PRESSURE = "log.pressure"
    CHUNK_REFUSED = "chunk.refused"  # left behind by the uplink, with the reason
    RECEIPT_FORGED = "receipt.forged"  # not signed by the aggregator, hence not believed
    CERTIFICATE_RENEWED = "certificate.renewed"
    CERTIFICATE_EXPIRING = "certificate.expiring"  # and not renewed so far
    CERTIFICATE_EXPIRED = "certificate.expired"
    CLONE_REFUSED = "log.clone_refused"
    SESSION_STATE_CHANGED = "session.state_changed"
    PHASE_CHANGED = "session.phase_changed"
    THRESHOLD_CHANGED = "session.threshold_changed"
    PARTICIPANT_CORRECTED = "session.participant_corrected"  # both pseudonyms are told
    HANDED_OVER = "session.handed_over"  # nobody wears anything any more
    CONSENT_GRANTED = "consent.granted"
    CONSENT_WITHDRAWN = "consent.withdrawn"
    CONFIG_APPLIED = "config.applied"
    JOB_COMPLETED = "job.completed"
    UPDATE_INSTALLED = "update.installed"
    UPDATE_ROLLED_BACK = "update.rolled_back"
    PACE_CHANGED = "pipeline.pace_changed"  # features left out for want of time, or computed again
    MAPPING_COMPLETED = "mapping.completed"
    SIMULATION_COMPLETED = "simulation.completed"


class SystemEvent(msgspec.Struct, frozen=True, kw_only=True):
    event_id: str
    event_type: EventType
    source: str
    node_id: str
    time_ns: int | None  # UTC, None while unknown
    t_ns: int  # box clock
    session_id: str = ""
    stream_id: str = ""
    data: dict[str, Any] = {}
    correlation_id: str
    causation_id: str = ""

    @classmethod
    def root(
        cls,
        event_type: EventType,
        *,
        source: str,
        node_id: str,
        clock: Clock,
        random: Callable[[int], bytes],
        session_id: str = "",
        stream_id: str = "",
        data: dict[str, Any] | None = None,
    ) -> "SystemEvent":
        """An event that nothing before it caused: it starts a correlation."""
        utc = clock.utc_ns()
        t_ns = clock.monotonic_ns()
        event_id = ulid((utc if utc is not None else t_ns) // 1_000_000, random)
        return cls(
            event_id=event_id,
            event_type=event_type,
            source=source,
            node_id=node_id,
            time_ns=utc,
            t_ns=t_ns,
            session_id=session_id,
            stream_id=stream_id,
            data=data or {},
            correlation_id=event_id,
        )

    def after(self, *, correlation_id: str, causation_id: str) -> "SystemEvent":
        """The same as the consequence of another event, by the ids that are known of that one."""
        return msgspec.structs.replace(
            self, correlation_id=correlation_id, causation_id=causation_id
        )
