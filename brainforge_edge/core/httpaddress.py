"""Where something is reached over HTTP, as configuration and command line give it. Runs in: any process. No I/O."""

from typing import NamedTuple
from urllib.parse import urlsplit


class HttpAddress(NamedTuple):
    host: str
    port: int
    is_tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.is_tls else ''}://{host}:{self.port}"


def http_address(text: str) -> HttpAddress | None:
    """`http://HOST:PORT` or `https://HOST:PORT`; None for anything else."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    has_more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in {"http", "https"} or not host or not port or has_more:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    return HttpAddress(host, port, parts.scheme == "https")
