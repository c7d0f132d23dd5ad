"""X.509 certificates of a site: its authority, brokers, aggregator and boxes. Runs in: command line tools; tls in any process. No I/O.

All keys are P-256. A certificate's common name is the name at the broker: a node's own, or `_aggregator`,
which no node can be called.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from brainforge_edge.core.errors import SecurityError

Certificate = x509.Certificate
PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

AGGREGATOR_NAME = "_aggregator"
BROKER_NAME = "_broker"
_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)
_EARLIER = timedelta(minutes=5)  # clocks differ a little; never more than a certificate's own life


class Role(StrEnum):
    """What a certificate is for."""

    NODE = "node"
    AGGREGATOR = "aggregator"
    BROKER = "broker"


def make_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(certificate: Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def public_der(key: PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def public_of(certificate: Certificate) -> bytes:
    """The certificate's public key, as `public_der`."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def read_certificate(text: bytes, name: str) -> Certificate:
    """The first certificate in a PEM text, of a P-256 key; SecurityError names `name`."""
    why = "it is no certificate in PEM"
    try:
        certificate = x509.load_pem_x509_certificate(text)
        why = "its key is not a P-256 key"
        key = certificate.public_key()
        common_name(certificate)  # read lazily: what cannot be is found here
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
            return certificate
    except _UNREADABLE:
        pass
    raise SecurityError(
        "not_a_certificate",
        f"the certificate {name} cannot be used",
        why=why,
        remedy="Put the right file there, or enrol the box again",
    )


def common_name(certificate: Certificate) -> str:
    """ "" where it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def make_authority(
    key: PrivateKey, site: str, *, serial: int, now: datetime, days: float
) -> Certificate:
    """The certificate that an authority signs for itself."""
    name = _name(site)
    return (
        _builder(name, name, key.public_key(), serial, now - _EARLIER, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_authority_id(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def certify(
    authority: tuple[PrivateKey, Certificate],
    public: PublicKey,
    *,
    name: str,
    role: Role,
    serial: int,
    now: datetime,
    days: float,
    hosts: Sequence[str] = (),
) -> Certificate:
    """A certificate of `name` for `public`, at longest until the authority's own ends."""
    key, own = authority
    until = min(now + timedelta(days=days), own.not_valid_after_utc)
    use = (
        ExtendedKeyUsageOID.SERVER_AUTH if role is Role.BROKER else ExtendedKeyUsageOID.CLIENT_AUTH
    )
    since = now - min(_EARLIER, until - now)
    builder = (
        _builder(_name(name), own.subject, public, serial, since, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=True)
        .add_extension(_authority_id(key.public_key()), critical=False)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256())


def revocation_list(
    authority: tuple[PrivateKey, Certificate],
    revoked: Iterable[tuple[int, datetime]],
    *,
    number: int,
    now: datetime,
) -> bytes:
    """The list as PEM. It holds as long as the authority: a broker refuses everybody once it has run out."""
    key, own = authority
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(own.subject)
        .last_update(now - _EARLIER)
        .next_update(own.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_id(key.public_key()), critical=False)
    )
    for serial, when in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def check_revocations(text: bytes, name: str, authority: Certificate) -> None:
    """SecurityError unless a PEM text is one list of this authority, and nothing else: what is loaded with it is trusted."""
    why = "it is no revocation list in PEM"
    try:
        listed = x509.load_pem_x509_crl(text)
        key = authority.public_key()
        is_ours = isinstance(key, ec.EllipticCurvePublicKey) and listed.is_signature_valid(key)
        if is_ours and text.count(b"-----BEGIN") == 1:
            return
        why = "there is more in it than one list" if is_ours else "it is of another authority"
    except _UNREADABLE:
        pass
    raise SecurityError(
        "revocation_list",
        f"the revocation list {name} cannot be used",
        why=why,
        remedy="Put the revoked.pem there that brainforge-edge cloud broker-config wrote, or leave `crl` out",
    )


def make_request(key: PrivateKey, name: str) -> bytes:
    """A certificate request (PKCS#10, PEM), signed with the key that it is about."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_request(text: bytes) -> tuple[str, PublicKey]:
    """Name and key that are asked for; SecurityError `bad_request` unless who asks has the key."""
    why = "it is no certificate request"
    try:
        request = x509.load_pem_x509_csr(text)
        key = request.public_key()
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            why = "its key is not a P-256 key"
        elif not request.is_signature_valid:
            why = "it is not signed with the key that it asks for"
        elif len(names) != 1 or len(request.subject) != 1:
            why = "it asks for something else than one common name"
        else:
            return str(names[0].value), key
    except _UNREADABLE:
        pass
    raise SecurityError(
        "bad_request",
        "the certificate request was not signed",
        why=why,
        remedy="Make it with brainforge-edge enrol request",
    )


def is_issued_by(certificate: Certificate, authority: Certificate) -> bool:
    """Whether the authority's key signed it; validity in time is another question."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def is_valid_at(certificate: Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def day(when: datetime) -> str:
    """For people."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: PublicKey,
    serial: int,
    since: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _authority_id(public: PublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
