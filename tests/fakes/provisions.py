"""Provisioning documents for tests, a key that signs them, and envelopes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from securesystemslib.signer import CryptoSigner

from keys.certificates import self_signed
from keys.public import hex_of
from updater.documents.envelope import seal
from updater.provision.policy import key_of
from updater.provision.reading import PAYLOAD_TYPE

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = hex_of(KEY.public_key())
PUBLIC_PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SSH_PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
SSH_KEY = f"{KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} admin@example"
_NOW = datetime(2026, 3, 1, tzinfo=UTC)
CERTIFICATE = (
    self_signed(generate_private_key(65537, 2048), common_name="test", now=_NOW, lifetime=timedelta(days=9))
    .public_bytes(Encoding.PEM)
    .decode()
)
_UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
WHOLE = yaml.safe_dump(
    {
        "serial": 7,
        "hostname": "web-1",
        "network": [
            {"name": "lan", "card": "en*", "addresses": ["10.0.2.77/24"], "gateways": ["10.0.2.2"], "dns": ["10.0.2.3"]}
        ],
        "users": [{"name": "admin", "uid": 1500, "groups": ["systemd-journal"], "ssh_keys": [SSH_KEY]}],
        "files": [{"path": "/etc/motd", "content": "hello\n"}, {"path": "/var/lib/app/key", "content_base64": "AAE="}],
        "units": [
            {"name": "web.container", "content": "[Container]\nImage=x\n"},
            {
                "name": "app.service",
                "content": _UNIT,
            },
        ],
        "registries": [
            {
                "location": "registry.example.com:5000",
                "login": {"username": "deploy", "password": "secret"},
                "ca": CERTIFICATE,
                "mirrors": [{"location": "mirror.example.com", "insecure": True}],
            }
        ],
        "proxy": {"https": "http://proxy.example.com:3128", "no_proxy": ["10.0.0.0/8", ".example.com"]},
        "ca_certificates": [CERTIFICATE],
        "updater": {"url": "https://updates.example.com", "channel": "beta"},
    },
    sort_keys=False,
)


def signed(text: str, key: Ed25519PrivateKey = KEY) -> bytes:
    """The document in an envelope."""
    signer = CryptoSigner(key, key_of(hex_of(key.public_key())))
    return seal(text.encode(), payload_type=PAYLOAD_TYPE, signers=[signer])
