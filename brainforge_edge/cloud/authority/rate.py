"""How often one may knock. Runs in: the process that serves the authority, its asyncio loop."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

_MOST_KEYS = 4096


class Rate:
    """At most `most` in `window_s` for each key; of thousands of keys the oldest are forgotten."""

    def __init__(self, most: int, window_s: float, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._window_s = window_s
        self._monotonic = monotonic
        self._seen: OrderedDict[str, tuple[float, int]] = (
            OrderedDict()
        )  # key → since when, how many

    def wait_s(self, key: str) -> float:
        """0 while another one is allowed, else the seconds until then."""
        since, n = self._now(key)
        return 0.0 if n < self._most else since + self._window_s - self._monotonic()

    def count(self, key: str) -> bool:
        """One more; whether it was the first that is too many."""
        since, n = self._now(key)
        self._seen[key] = since, n + 1
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_KEYS:
            self._seen.popitem(last=False)
        return n == self._most

    def _now(self, key: str) -> tuple[float, int]:
        now = self._monotonic()
        since, n = self._seen.get(key, (now, 0))
        return (since, n) if now - since < self._window_s else (now, 0)


def peer_key(host: str) -> str:
    """Who one peer is: with IPv6 all addresses of its network, since it can take any of them."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return host
