"""`[web]`: off unless it is asked for, and for this machine alone."""

import pytest

from brainforge_edge.core.config import parse
from brainforge_edge.core.errors import ConfigError

NODE = '[node]\nid = "box"\n[web]\n'


def test_no_page_unless_it_is_asked_for() -> None:
    web = parse('[node]\nid = "box"\n').web
    assert (web.enabled, web.host, web.port) == (False, "127.0.0.1", 8080)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_addresses_of_this_machine_alone(host: str) -> None:
    assert parse(f'{NODE}enabled = true\nhost = "{host}"\n').web.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.local", "", "localhost"])
def test_an_address_that_others_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f'{NODE}host = "{host}"\n')
    assert refused.value.code == "config.invalid"
    assert "web.host" in refused.value.why
    assert "127.0.0.1" in refused.value.remedy


@pytest.mark.parametrize(("entry", "key"), [("port = 0", "web.port"), ("prot = 1", "web")])
def test_other_entries_are_refused_with_their_path(entry: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        parse(NODE + entry)
