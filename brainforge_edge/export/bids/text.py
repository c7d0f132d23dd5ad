"""What a dataset says in words and JSON. Runs in: `brainforge-edge export`."""

import datetime
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from brainforge_edge.export.bids.folder import DESCRIPTION, PARTICIPANTS, RECORDING_ID
from brainforge_edge.export.bids.label import PSEUDONYM
from brainforge_edge.export.bids.table import ABSENT, Table, as_json, number
from brainforge_edge.export.bids.written import Written
from brainforge_edge.export.recording import StreamRows

BIDS_VERSION = "1.10.0"
SKIP = "BAD_ACQ_SKIP"
SCANS_JSON = {
    RECORDING_ID: {
        "Description": "First 16 digits of a SHA-256 that stands for one stream of one recording; "
        "it keeps an export from adding it twice"
    }
}
_PARTICIPANTS_JSON = {
    PSEUDONYM: {"Description": "The pseudonym that the box recorded; participant_id is made of it"}
}
_EVENTS_JSON = {
    "trial_type": {
        "Description": f"Text of the marker, or {SKIP}: no rows were recorded in that stretch, and "
        "the file holds the row before it"
    }
}
_README = """\
Recorded and exported by brainforge-edge.

Each recording is a session (ses-) of every participant in it; sessions of several participants with the
same number are one recording, on one clock. A run (run-) begins where a device was described anew, after a
calibration say. Where rows are missing the files hold the row before them, and events name the stretch
BAD_ACQ_SKIP. Values are as recorded: nothing was filtered, resampled or rounded.
"""


def at_the_top(participants: Table) -> Iterator[tuple[str, str]]:
    """Name and text of the files of the dataset as a whole."""
    maker = {"Name": "brainforge-edge", "Version": metadata.version("brainforge-edge")}
    description = {
        "Name": "Recordings of brainforge-edge",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [maker],
    }
    yield DESCRIPTION, as_json(description)
    yield "README", _README
    yield "participants.json", as_json(_PARTICIPANTS_JSON)
    yield PARTICIPANTS, participants.text()


def sidecar(
    rows: StreamRows, written: Written, task: str, datatype: str, line_hz: float | None
) -> dict[str, Any]:
    """What every modality has, and its own; `line_hz` only where it can be heard."""
    info = rows.info
    found: dict[str, Any] = {
        "TaskName": task,
        "SamplingFrequency": info.sfreq,
        "RecordingDuration": (rows.n_rows + written.n_filled) / info.sfreq,
        "RecordingType": "continuous",
        "Device": info.device,
        "Stream": info.stream_id,
    }
    if datatype in {"eeg", "meg"}:
        found["PowerLineFrequency"] = ABSENT if line_hz is None else line_hz
    if datatype != "motion":
        found["SoftwareFilters"] = ABSENT
    return found | dict(written.sidecar)


def events(rows: StreamRows, n_filled: int) -> dict[str, str]:
    """Markers and gaps as a table and what it means; no files where there are none.

    `n_filled` rows at the end are the format's own.
    """
    sfreq = rows.info.sfreq
    found = [(rows.n_rows / sfreq, n_filled / sfreq, SKIP)] if n_filled else []
    found += [(skip.row / sfreq, skip.n / sfreq, SKIP) for skip in rows.skips]
    found += [(mark.row / sfreq, mark.duration_s, mark.description) for mark in rows.markers]
    if not found:
        return {}
    lines = [(number(onset), number(duration), text) for onset, duration, text in sorted(found)]
    table = Table.of(("onset", "duration", "trial_type"), lines)
    return {"events.tsv": table.text(), "events.json": as_json(_EVENTS_JSON)}


def acquired(utc_ns: int | None) -> str:
    """UTC of the first row; ABSENT where the box did not learn the time."""
    if utc_ns is None:
        return ABSENT
    seconds, rest = divmod(utc_ns, 1_000_000_000)
    start = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{start:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"
