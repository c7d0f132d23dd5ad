"""TLS 1.3 with certificates on both ends, and what its failures mean. Runs in: uplink and ingest, their link threads; `config check`.

The files are read anew for every connection, so that a renewed certificate is used without a restart.
"""

import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brainforge_edge.core.config import TlsConfig
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.certificates import (
    Certificate,
    check_revocations,
    common_name,
    day,
    is_issued_by,
    public_der,
    public_of,
    read_certificate,
)
from brainforge_edge.security.keystore import read_private

# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_NOT_YET_VALID, _EXPIRED, _NAMES = 9, 10, (62, 64)
_REVOKED, _LIST_NOT_YET_VALID, _LIST = 23, 11, (3, 8, 12)
_OLD_TLS = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION"}
_CUT_OFF = "UNEXPECTED_EOF_WHILE_READING"
_NO_TLS = {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", _CUT_OFF}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no link came about: words of an error."""

    code: str
    why: str
    remedy: str

    @classmethod
    def of(cls, error: SecurityError) -> "Refusal":
        return cls(error.code.partition(".")[2], f"{error.what}: {error.why}", error.remedy)


class NotingSocket(ssl.SSLSocket):
    """Remembers with which alert it failed: with TLS 1.3 a broker's no to our certificate comes after the handshake."""

    failed = ""  # the alert, in OpenSSL's words; not the error, whose traceback would keep everything alive

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()  # who wrapped it has nothing yet that could be closed
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if error.reason and "ALERT_" in error.reason:
                self.failed = error.reason
            raise

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            with contextlib.suppress(OSError):
                self.recv(1)  # why it was closed may have come before
            raise


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths: the authority that both ends trust, one's own certificate and key, and perhaps its revocation list."""

    ca: Path
    certificate: Path
    key: Path
    crl: Path | None = None

    @classmethod
    def of(cls, config: TlsConfig) -> "TlsFiles | None":
        """As `[uplink.tls]` says; None where it is off."""
        if not config.enabled:
            return None
        crl = Path(config.crl) if config.crl else None
        return cls(Path(config.ca), Path(config.certificate), Path(config.key), crl)

    def context(self) -> ssl.SSLContext:
        """For one connection; SecurityError names the file that cannot be used."""
        self.own()
        self.check_revocations()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # requires a certificate, checks the name
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.sslsocket_class = NotingSocket
        try:
            context.load_verify_locations(self.ca)
            context.load_cert_chain(self.certificate, self.key)
            if self.crl is not None:
                context.load_verify_locations(self.crl)
                context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        except OSError as error:  # they were looked at above, and change when they are renewed
            raise SecurityError(
                "certificate_changed",
                f"the certificate {self.certificate} was not loaded",
                why=str(error.strerror or error).lower(),
                remedy="Run brainforge-edge enrol install again if this stays",
            ) from error
        return context

    def own(self) -> Certificate:
        """Our certificate, with a key that fits it and an authority that issued it. Its dates are not looked at."""
        authority = read_certificate(_read(self.ca), str(self.ca))
        certificate = read_certificate(_read(self.certificate), str(self.certificate))
        private = read_private(self.key)
        if public_der(private.public_key()) != public_of(certificate):
            raise SecurityError(
                "key_mismatch",
                f"the certificate {self.certificate} cannot be used",
                why=f"it is not of the key {self.key}",
                remedy="Run brainforge-edge enrol install again, or put a certificate and key there that belong together",
            )
        if not is_issued_by(certificate, authority):
            raise SecurityError(
                "wrong_authority",
                f"the certificate {self.certificate} cannot be used",
                why=f"it was not issued by the authority in {self.ca}",
                remedy="Take both from the same site",
            )
        return certificate

    def check_revocations(self) -> None:
        """SecurityError for a list that cannot be used: without it anybody's stolen certificate would do."""
        if self.crl is None:
            return
        try:
            listed = self.crl.read_bytes()
        except OSError as error:
            raise SecurityError(
                "revocation_list",
                f"the revocation list {self.crl} cannot be read",
                why=str(error.strerror).lower(),
                remedy="Put the revoked.pem there that brainforge-edge cloud broker-config wrote, or leave `crl` out",
            ) from error
        check_revocations(listed, str(self.crl), read_certificate(_read(self.ca), str(self.ca)))

    def refusal(self, error: OSError, now: datetime | None = None) -> Refusal:
        """What an error of the handshake means."""
        now = now or datetime.now(UTC)
        if isinstance(error, ssl.SSLCertVerificationError):
            return _of_broker(error, now)
        if isinstance(error, ssl.SSLEOFError | ConnectionResetError):
            return self.refused_for(_CUT_OFF, now)
        reason = error.reason if isinstance(error, ssl.SSLError) else None
        return self.refused_for(reason or str(error.strerror or error), now)

    def refused_for(self, reason: str, now: datetime | None = None) -> Refusal:
        """What OpenSSL's word for a failure means."""
        if reason in _OLD_TLS:
            return Refusal(
                "tls_too_old",
                "it does not speak TLS 1.3",
                "Set tls_version tlsv1.3 (mosquitto) or min_version 1.3 (nats-server), or renew the broker's program",
            )
        if reason in _NO_TLS:
            return Refusal(
                "not_tls",
                "it does not speak TLS on this port, or cut the handshake off",
                "Give the broker's TLS port (8883 as a rule), or set up TLS there: brainforge-edge cloud broker-config",
            )
        words = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
        if "ALERT_" in reason:
            return self._of_us(f"it refused {{}}: {words}", now or datetime.now(UTC))
        return Refusal("tls_failed", f"TLS failed: {words}", "See the broker's log")

    def turned_away(self, *, closed: bool, now: datetime | None = None) -> Refusal:
        """What it means when a broker closes after the handshake, or does not know our name."""
        said = "it closed the connection when it was shown {}" if closed else "it does not know {}"
        return self._of_us(said, now or datetime.now(UTC))

    def _of_us(self, said: str, now: datetime) -> Refusal:
        """The broker said no to our certificate."""
        try:
            certificate = self.own()
        except SecurityError as error:
            return Refusal.of(error)
        name = common_name(certificate)
        if now > certificate.not_valid_after_utc:
            return Refusal(
                "certificate_expired",
                f"the certificate of {name} expired on {day(certificate.not_valid_after_utc)}",
                "Enrol anew with a token: brainforge-edge enrol now --token-file",
            )
        if now < certificate.not_valid_before_utc:
            return Refusal(
                "clock_before_certificate",
                f"the certificate of {name} is valid from {day(certificate.not_valid_before_utc)}, "
                f"and the clock here says {day(now)}",
                "Set the clock",
            )
        return Refusal(
            "certificate_refused",
            said.format(f"the certificate of {name}"),
            "Look whether it was revoked (brainforge-edge cloud ca list), and whether the broker has our authority, the right time and its newest configuration",
        )


def _of_broker(error: ssl.SSLCertVerificationError, now: datetime) -> Refusal:
    if error.verify_code == _EXPIRED:
        return Refusal(
            "broker_expired",
            f"its certificate has expired by the clock here, {day(now)}",
            "Renew it: brainforge-edge cloud ca issue, or set the clock",
        )
    if error.verify_code == _REVOKED:
        return Refusal(
            "broker_revoked",
            "its certificate was revoked: whoever answers there may have stolen it",
            "Find out who answers at this address; the broker's new certificate: brainforge-edge cloud ca issue broker",
        )
    if error.verify_code in _LIST:
        return Refusal(
            "revocation_list",
            f"whether its certificate was revoked cannot be told: {error.verify_message.rstrip('. ').lower()}",
            "Put the newest revoked.pem of brainforge-edge cloud broker-config where `crl` in [uplink.tls] says",
        )
    if error.verify_code in (_NOT_YET_VALID, _LIST_NOT_YET_VALID):
        return Refusal(
            "clock_before_broker",
            f"its certificate is not valid yet by the clock here, {day(now)}",
            "Set the clock; what is recorded meanwhile is sent then",
        )
    if error.verify_code in _NAMES:
        return Refusal(
            "broker_name",
            "its certificate is of another name: " + error.verify_message.rstrip(". ").lower(),
            "Give the name that the certificate has as the host, or issue one with --host",
        )
    return Refusal(
        "broker_untrusted",
        f"its certificate was not issued by our authority: {error.verify_message.rstrip('. ')}",
        "Correct the address, or take ca and the broker's certificate from the same site",
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecurityError(
            "no_certificate",
            f"the certificate {path} cannot be read",
            why=str(error.strerror).lower(),
            remedy="Enrol the box (brainforge-edge enrol now --token-file), or correct [uplink.tls]",
        ) from error
