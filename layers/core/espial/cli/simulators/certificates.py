"""Certificates that nobody should accept, for a receiver over TLS."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DAY = timedelta(days=1)


class Wrong(StrEnum):
    """What is wrong with it. None of them is from an authority that anybody trusts."""

    UNTRUSTED = "untrusted"
    EXPIRED = "expired"
    OTHER_HOST = "other-host"


def wrong(what: Wrong) -> ssl.SSLContext:
    """The side of a server on loopback with such a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a receiver")])
    over = datetime.now(UTC) + (-DAY if what is Wrong.EXPIRED else DAY)
    here = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    hosts = [x509.DNSName("elsewhere.example.com")] if what is Wrong.OTHER_HOST else here
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), over - 3 * DAY, over)
    builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    issued = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:  # the only way in
        chain = Path(folder, "chain.pem")
        chain.write_bytes(issued + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context.load_cert_chain(chain)
    return context
