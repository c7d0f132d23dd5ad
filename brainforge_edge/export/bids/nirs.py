"""`nirs/`: SNIRF, and where the optodes lie. Runs in: `brainforge-edge export`."""

from pathlib import Path

from brainforge_edge.core.stream import ChannelDetail, Place
from brainforge_edge.export import snirf
from brainforge_edge.export.bids.table import Table, number, rows_of
from brainforge_edge.export.bids.written import Written
from brainforge_edge.export.recording import StreamRows

COORDSYSTEM = {
    "NIRSCoordinateSystem": "Other",
    "NIRSCoordinateUnits": "m",
    "NIRSCoordinateSystemDescription": "The device's own frame, as it announces it",
}


def write(rows: StreamRows, folder: Path, stem: str) -> Written:
    """StorageError `export_misfit` for light without places, and for its phase."""
    path = folder / f"{stem}_nirs{snirf.SUFFIX}"
    snirf.write(rows, path)
    info = rows.info
    found = []
    optodes: dict[tuple[str, str], Place] = {}
    for channel in info.channels:
        detail = channel.detail
        assert isinstance(detail, ChannelDetail)  # or it were no SNIRF
        assert detail.source_m is not None
        assert detail.detector_m is not None
        optodes[detail.source, "source"] = detail.source_m
        optodes[detail.detector, "detector"] = detail.detector_m
        found.append(
            (
                channel.name, "NIRSCWAMPLITUDE", detail.source, detail.detector,
                number(detail.wavelength_nm), channel.unit, number(info.sfreq),
            )
        )  # fmt: skip
    columns = (
        "name", "type", "source", "detector", "wavelength_nominal", "units", "sampling_frequency",
    )  # fmt: skip
    places = [
        (name, kind, *(number(value) for value in place))
        for (name, kind), place in sorted(optodes.items(), key=lambda item: item[0][::-1])
    ]
    kinds = [kind for _, kind in optodes]
    sidecar = {
        "NIRSChannelCount": info.n_channels,
        "NIRSSourceOptodeCount": kinds.count("source"),
        "NIRSDetectorOptodeCount": kinds.count("detector"),
    }
    table = Table(("name", "type", "x", "y", "z"), rows_of(places))
    return Written((path,), Table(columns, rows_of(found)), sidecar, table)
