"""Definitions with an error in each kind of file: real builds name each with its line, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from workbench import OUT, Workbench

from bedrock.progress import Silent
from imagebuild.errors import BuildError
from imagebuild.inputs.supply import newest_supply
from imagebuild.inputs.tools import cache_folder
from imagebuild.pipeline.build import build_image
from imagebuild.steps.plan import plan_build
from imagebuild.steps.signing import KeySource
from keys.passphrase import NoPassphrase
from partitions.version import Version

NOT_THERE = """
timezone: Europe/Nowhere
modules: [br_netfiltr]
sysctl: {net.ipv4.ip_forwad: 1}
services: {enable: [nftable.service]}
files:
- {path: /usr/bin/podman, content: x}
- {path: /etc/sysctl.d/10-x.conf, content: "vm.swapines = 10\\n"}
units:
- {name: nftables.service, content: "[Service]\\nExecStart=/bin/true\\n"}
"""
WRONG_LINES = """
files:
- {path: /etc/tmpfiles.d/x.conf, content: "d /var/x 0755 nobody-knows root -\\n"}
- {path: /etc/systemd/network/10-x.network, content: "[Match]\\nName=x\\n[Netwrok]\\n"}
- {path: /etc/udev/rules.d/90-x.rules, content: 'SUBSYTEM=="net"'}
units:
- {name: a.service, content: "[Service]\\nExecStrat=/bin/true\\nExecStart=/usr/bin/none\\n[Instal]\\n"}
- {name: b.container, content: "[Container]\\nImgae=registry.test/b:1\\n"}
- {name: c.container, content: "[Container]\\nImage=registry.test/c:1\\n[Service]\\nRestrat=always\\n[Instal]\\n"}
"""
KEY = """
files:
- {path: /etc/app/tls.pem, source: key.pem}
"""
CASES = {
    "what the image cannot have": (
        NOT_THERE,
        (
            "timezone: the image has no zone Europe/Nowhere",
            "modules[0]: the image has no kernel module br_netfiltr (near it are br_netfilter",
            "sysctl.net.ipv4.ip_forwad: neither the image's kernel nor a module of it knows",
            "files[1].content (/etc/sysctl.d/10-x.conf), line 1: neither the image's kernel nor",
            "services.enable[0]: no package of the image has a unit nftable.service; near it are nftables.service",
            "files[0]: /usr/bin/podman is a file of the package podman; say `replace: true`",
            "units[0]: /usr/lib/systemd/system/nftables.service is a file of the package nftables",
        ),
    ),
    "wrong lines": (
        WRONG_LINES,
        (
            "files[0].content (/etc/tmpfiles.d/x.conf), line 1: Failed to resolve user 'nobody-knows'",
            "files[1].content (/etc/systemd/network/10-x.network), line 3: Unknown section 'Netwrok'",
            "files[2].content (/etc/udev/rules.d/90-x.rules), line 1: Invalid key 'SUBSYTEM'",
            "units[0].content (a.service), line 2: Unknown key 'ExecStrat'",
            "units[0].content (a.service), line 3: the image has no program /usr/bin/none",
            "units[0].content (a.service), line 4: Unknown section 'Instal'",
            "units[1].content (b.container), line 2: unsupported key 'Imgae'",
            "units[2].content (c.container), line 4: Unknown key 'Restrat'",
            "units[2].content (c.container), line 5: Unknown section 'Instal'",
        ),
    ),
    "a baked key": (KEY, ("the image holds secrets", "/etc/app/tls.pem holds a private key")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_definition_ends_the_build_with_each_error_and_its_place(bench: Workbench, name: str) -> None:
    text, expected = CASES[name]
    folder = OUT / "wrong" / name.replace(" ", "-")
    message = refused(bench, folder, text)
    assert [part for part in expected if part not in message] == [], message
    left = [path.name for path in (folder / "out").iterdir()] if (folder / "out").exists() else []
    assert left == ["1.0.0.failed.log"]


def refused(bench: Workbench, folder: Path, text: str) -> str:
    """What a build of such a definition ends with."""
    definition = folder / "definition"
    definition.mkdir(parents=True, exist_ok=True)
    (definition / "image.yaml").write_text(f"id: wrong\n{text}")
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (definition / "key.pem").write_bytes(key)
    plan = plan_build(
        definition,
        version=Version("1.0.0"),
        signatures=KeySource(bench.keyring, NoPassphrase()),
        out=folder / "out" / "1.0.0",
        supply=newest_supply(definition, mirrors=bench.mirrors, cache=cache_folder(), progress=Silent()),
        root_of_trust=OUT / "trust" / "repo" / "metadata" / "1.root.json",
    )
    with pytest.raises(BuildError) as caught:
        build_image(plan)
    return str(caught.value)
