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


FILES = 'certificate = "c"\nkey = "k"\nlogins = "l"\n'


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_an_address_that_others_reach_wants_tls_and_logins(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f'{NODE}host = "{host}"\n')
    assert refused.value.code == "config.invalid"
    assert "web.host" in refused.value.why
    assert "web.certificate" in refused.value.why
    assert "127.0.0.1" in refused.value.remedy
    web = parse(f'{NODE}host = "{host}"\nnames = ["bed-1.local"]\n{FILES}').web
    assert (web.host, web.logins) == (host, "l")


@pytest.mark.parametrize("key", ["certificate", "key", "logins"])
@pytest.mark.parametrize("host", ["192.168.1.5", "127.0.0.1"])
def test_all_three_files_or_none(key: str, host: str) -> None:
    some = "\n".join(line for line in FILES.splitlines() if not line.startswith(key))
    with pytest.raises(ConfigError, match=f"web.{key} is missing"):
        parse(f'{NODE}host = "{host}"\n{some}\n')


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ('host = "box.local"', "web.host"),
        ('host = "localhost"', "web.host"),
        ('host = ""', "web.host"),
        (f'host = "0.0.0.0"\n{FILES}', "web.names is empty"),
        ('names = ["a b"]', "web.names"),
        ("idle_s = 1", "web.idle_s"),
        ("port = 0", "web.port"),
        ("prot = 1", "web"),
    ],
)
def test_other_entries_are_refused_with_their_path(entries: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(NODE + entries)
