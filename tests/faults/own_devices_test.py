"""Helmet, optical helmet and hat on one box, each on another link: recorded, verified, exported."""

import json
from pathlib import Path

import mne
import pytest

from brainforge_edge.core.stream import ChannelDetail
from brainforge_edge.recorder.reader import read_segment
from tests.faults.box import Box, box_in, cli

STREAMS = ("helmet-mag", "light-flow", "light-flux", "hat-acc1", "hat-acc2")


def least(stream: str) -> int:
    """Samples of a second and a half."""
    return 15 if stream.startswith("light") else 1500


def emulate_on_the_network(box: Box, name: str, emulator: str, scheme: str, channels: int) -> str:
    """The address at which it answers."""
    ledger = box.root / f"{name}.json"
    arguments = ("--ledger", str(ledger), "--channels", str(channels))
    box.emulate_at(name, emulator, f"{scheme}://:0", *arguments)
    box.until(ledger.exists, 20, f"the ledger of {name}")
    return str(json.loads(ledger.read_text())["link"])


@pytest.mark.parametrize("form", ["fif", pytest.param("csv", marks=pytest.mark.long)])
def test_five_streams_of_three_devices_lie_in_one_recording(tmp_path: Path, form: str) -> None:
    with box_in(tmp_path) as box:
        box.device("helmet", "opm")
        box.emulate("helmet", "opm")
        light = emulate_on_the_network(box, "light", "fnirs", "tcp", 16)
        box.device("light", "fnirs", port=light)
        hat = emulate_on_the_network(box, "hat", "accel_hat", "udp", 6)
        box.device("hat", "accel_hat", port=hat)
        box.write_config()
        box.start()
        for stream in STREAMS:
            box.until_streaming(stream, 20)
        box.ask("record", name="night")
        for stream in STREAMS:
            box.until(lambda s=stream: box.stream(s)["recorded"] >= least(s), 20, stream)  # type: ignore[misc]
        box.ask("stop")
        account = box.verify()["night"]
        assert set(STREAMS) <= account.keys()
        for stream in STREAMS:
            (span,) = account[stream]["spans"]
            assert span[2] - span[1] >= least(stream)
        (segment, *_) = sorted((box.recordings / "night" / "light-flow").glob("*.seg"))
        descriptor = read_segment(segment).descriptor
        assert descriptor is not None
        channel = descriptor.info.channels[1]
        assert isinstance(channel.detail, ChannelDetail)
        assert channel.detail.wavelength_nm == 850.0
        output = tmp_path / "out"
        result = cli("export", box.recordings / "night", "--format", form, "--output", output)
        assert result.returncode == 0, result.stderr
        files = sorted(output.rglob(f"*.{form}"))
        assert len(files) >= len(STREAMS)
        if form == "fif":
            flow = next(path for path in files if "light-flow" in path.name)
            raw = mne.io.read_raw_fif(flow, verbose="error")
            assert set(raw.get_channel_types()) == {"fnirs_cw_amplitude"}
            light_alone(box, tmp_path / "snirf", raw)
            refused = cli(
                "export", box.recordings / "night", "--format", "edf", "--output", output,
                "--stream", "helmet-mag",
            )  # fmt: skip
            assert refused.returncode == 12
            assert "magnetic channels" in refused.stderr


def light_alone(box: Box, output: Path, same: mne.io.BaseRaw) -> None:
    """Of the five streams SNIRF takes the amplitudes of light; it says why it leaves out the others."""
    result = cli(
        "export", box.recordings / "night", "--format", "snirf", "--output", output, "--json"
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    (flow,) = said["files"]
    assert "light-flow" in flow
    assert len(said["left_out"]) >= len(STREAMS) - 1
    raw = mne.io.read_raw_snirf(flow, verbose="error")
    assert raw.info["nchan"] == same.info["nchan"]
    assert raw.get_data() == pytest.approx(same.get_data(), rel=1e-6, abs=1e-6)
