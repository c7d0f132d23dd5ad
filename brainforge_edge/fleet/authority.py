"""A box's way to its site's authority over HTTP. Runs in: CLI process; agent process, thread `renew`.

What is sent and what comes back prove themselves (security/enrolment.py): TLS hides them from a listener,
and is needed for nothing else. What an error says is anybody's word, so the advice that goes with it is ours.
"""

import contextlib
import http.client
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any, Final

from brainforge_edge.core.errors import BrainforgeError, SecurityError, TransportError
from brainforge_edge.core.httpaddress import HttpAddress
from brainforge_edge.security.enrolment import MOST_BYTES

PATH: Final = "/enrol"
EXCHANGE_S: Final = 20.0  # from the call to the last byte of the answer
_CONNECT_S = 10.0
_LONGEST_WORD = 300
_AGAIN = "It is tried with the same request, whose token is not lost: run it again"
_ADVICE = {
    "token_used": "Give the box a new token: brainforge-edge cloud ca token",
    "token_expired": "Give the box a new token: brainforge-edge cloud ca token",
    "token_unknown": "Look whether this is the right site, or give the box a new token: brainforge-edge cloud ca token",
    "token_of_another": "Correct node.id, or take the token that was made for it",
    "certificate_expired": "Enrol the box with a token: brainforge-edge enrol now --token-file",
    "certificate_revoked": "Enrol the box with a token: brainforge-edge enrol now --token-file",
}


def exchange(
    address: HttpAddress, request: bytes, *, ca: Path | None = None, most_s: float = EXCHANGE_S
) -> bytes:
    """The answer's bytes. SecurityError: the authority said no; TransportError: it was not heard.

    `ca`, where it is there, is trusted for https beside the system's authorities.
    """
    connection = _connection(address, ca)
    over = threading.Timer(most_s, lambda: _hang_up(connection))
    over.daemon = True  # else a process that ends would wait for it
    try:
        connection.connect()
        over.start()
        if connection.sock is not None:
            connection.sock.settimeout(most_s)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", PATH, request, headers)
        with connection.getresponse() as response:
            told = response.length  # None: nobody could tell whether all of it came
            body = response.read(MOST_BYTES)
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(address, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _absent(address, error) from error
    finally:
        over.cancel()
        connection.close()
    if response.status == http.HTTPStatus.OK and len(body) == told:
        return body
    raise _refusal(address, response.status, body)


def _connection(address: HttpAddress, ca: Path | None) -> http.client.HTTPConnection:
    if not address.is_tls:
        return http.client.HTTPConnection(address.host, address.port, timeout=_CONNECT_S)
    context = ssl.create_default_context()
    if ca is not None and ca.is_file():
        try:
            context.load_verify_locations(ca)
        except OSError as error:
            raise SecurityError(
                "not_a_certificate",
                f"the certificate {ca} cannot be used",
                why=str(error.strerror or error).lower(),
                remedy="Name the site's ca.pem",
            ) from error
    return http.client.HTTPSConnection(
        address.host, address.port, timeout=_CONNECT_S, context=context
    )


def _hang_up(connection: http.client.HTTPConnection) -> None:
    """On somebody who answers a byte now and then."""
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _refusal(address: HttpAddress, status: int, body: bytes) -> BrainforgeError:
    said = _said(body)
    family, _, code = str(said.get("code", "")).partition(".")
    why = _word(said.get("why"))
    if not code.replace("_", "").isalnum() or not code.isascii() or not why:
        return TransportError(
            "authority_odd",
            f"{address} did not answer as an authority does",
            why=f"it said HTTP {status}",
            remedy="Correct the address: it is that of brainforge-edge cloud ca serve",
            transient=True,
        )
    what, why = "the authority did not sign", f"{address} says: {why} ({_word(code)})"
    if family == SecurityError.family:
        advice = _ADVICE.get(code, "Look that code up in brainforge_edge/docs/trust.md")
        return SecurityError(_word(code), what, why=why, remedy=advice)
    return TransportError(_word(code), what, why=why, remedy=_AGAIN, transient=True)


def _said(body: bytes) -> dict[str, Any]:
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _word(said: object) -> str:
    """What a stranger may have written, as far as it can be shown."""
    text = "".join(each if each.isprintable() else " " for each in str(said or ""))
    return text[:_LONGEST_WORD].strip().rstrip(".")


def _absent(address: HttpAddress, error: Exception) -> TransportError:
    why = str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
    return TransportError(
        "authority_absent",
        f"the authority at {address} did not answer",
        why=_word(why),
        remedy="Look whether brainforge-edge cloud ca serve runs there and its port is open, then run it again: the token is not lost",
        transient=True,
    )


def _untrusted(address: HttpAddress, error: ssl.SSLCertVerificationError) -> TransportError:
    return TransportError(
        "authority_untrusted",
        f"the authority at {address} was not spoken to",
        why=f"its certificate for TLS is not trusted here: {_word(error.verify_message)}",
        remedy="Give the site's ca.pem with --ca, correct the address or the clock, or use http: request and answer prove themselves",
        transient=True,
    )
