"""`nirs/`: SNIRF, and where the optodes lie. Runs in: `brainforge-edge export`.

Optodes are S1, S2 … and D1, D2 … by their numbers in the file, as its readers call them; `description`
is the device's own name.
"""

from pathlib import Path

from brainforge_edge.core.stream import ChannelDetail
from brainforge_edge.export import snirf
from brainforge_edge.export.bids.table import Table, number
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
    details = [channel.detail for channel in info.channels]
    known = [detail for detail in details if isinstance(detail, ChannelDetail)]
    sources, detectors = snirf.all_optodes(known)
    found = []
    for channel, detail in zip(info.channels, known, strict=True):
        one, two = snirf.optodes(detail)
        source, detector = f"S{1 + sources.index(one)}", f"D{1 + detectors.index(two)}"
        wavelength = number(detail.wavelength_nm)
        name = f"{source}_{detector} {wavelength}"
        found.append(
            (
                name, "NIRSCWAMPLITUDE", source, detector, wavelength, channel.unit,
                number(info.sfreq), channel.name,
            )
        )  # fmt: skip
    columns = (
        "name", "type", "source", "detector", "wavelength_nominal", "units", "sampling_frequency",
        "description",
    )  # fmt: skip
    places = [
        (f"{letter}{k}", kind, *(number(value) for value in place), name)
        for letter, kind, optodes in (("S", "source", sources), ("D", "detector", detectors))
        for k, (name, place) in enumerate(optodes, 1)
    ]
    sidecar = {
        "NIRSChannelCount": info.n_channels,
        "NIRSSourceOptodeCount": len(sources),
        "NIRSDetectorOptodeCount": len(detectors),
    }
    table = Table.of(("name", "type", "x", "y", "z", "description"), places)
    return Written((path,), Table.of(columns, found), sidecar, table)
