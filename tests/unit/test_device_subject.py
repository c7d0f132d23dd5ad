"""Who wears a device: a pseudonym in its entry, into the identity of what it records."""

import pytest

from brainforge_edge.core import config
from brainforge_edge.core.errors import ConfigError

TEXT = """
[node]
id = "ward-1"
[[device]]
name = "muse1"
kind = "muse"
subject = "p-anna"
[[device]]
name = "muse2"
kind = "muse"
"""


def test_each_device_has_its_own_subject_or_none() -> None:
    assert [device.subject for device in config.parse(TEXT).device] == ["p-anna", ""]


@pytest.mark.parametrize("name", ["Anna Smith", "p_anna", "-p", "é"])
def test_what_looks_like_a_name_or_could_be_no_path_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(TEXT.replace("p-anna", name))
    assert "subject" in str(caught.value)
