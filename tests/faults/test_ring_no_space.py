"""A memory file system that is too small for a ring."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.rings.ring import SampleRing

INFO = StreamInfo("s", "dev", 1000.0, Dtype.I24, tuple(ChannelInfo(f"c{k}") for k in range(64)))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets not even root mount a tmpfs")
    yield tmp_path
    # Lazy: a failed test's traceback may still hold a mapping.
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.root
def test_a_full_tmpfs_is_one_sentence_at_open_and_the_old_ring_stays(small: Path) -> None:
    path = small / "s.ring"
    ring = SampleRing.create(path, INFO, seconds=1)
    ring.close()
    with pytest.raises(StorageError, match="memory file system is full") as caught:
        SampleRing.create(path, INFO, seconds=64)
    assert caught.value.code == "storage.ring_no_space"
    assert caught.value.transient
    assert [entry.name for entry in small.iterdir()] == ["s.ring"]
    again = SampleRing.create(path, INFO, seconds=1)
    assert again.is_attached
    again.close()
