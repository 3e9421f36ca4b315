"""The provisioning document: what it may say, what it comes to."""

from __future__ import annotations

import json

import pytest
import yaml

from bedrock.errors import DocumentError
from tests.fakes.provisions import CERTIFICATE, WHOLE
from updater.provision.document import Provision
from updater.provision.files import files_of
from updater.provision.reading import MAX_DOCUMENT_BYTES, parse_provision
from updater.provision.registries import REGISTRIES_FILE


def parse(text: str) -> Provision:
    return parse_provision(text.encode(), source="web-1.yaml")


def written(text: str) -> dict[str, str]:
    return {target.path: target.data.decode() for target in files_of(parse(text))}


def test_a_whole_document_comes_to_its_files() -> None:
    files = written(WHOLE)
    assert files["/etc/hostname"] == "web-1\n"
    network = files["/etc/systemd/network/10-provision-lan.network"]
    assert "Name=en*\n" in network
    assert "Address=10.0.2.77/24\nGateway=10.0.2.2\nDNS=10.0.2.3\n" in network
    assert "DHCP=no\n" in network
    assert files["/etc/sysusers.d/50-provision.conf"] == (
        'u admin 1500 "admin" /home/admin /bin/bash\nm admin systemd-journal\n'
    )
    assert files["/etc/containers/systemd/web.container"].startswith("[Container]\n")
    logins = json.loads(files["/var/roothome/.docker/config.json"])
    assert logins == {"auths": {"registry.example.com:5000": {"auth": "ZGVwbG95OnNlY3JldA=="}}}
    assert files["/etc/containers/certs.d/registry.example.com:5000/provision.crt"] == CERTIFICATE
    assert '"HTTPS_PROXY=http://proxy.example.com:3128"' in files["/etc/systemd/system.conf.d/50-provision-proxy.conf"]
    settings = yaml.safe_load(files["/etc/twinhull/updater.d/50-provision.yaml"])
    assert settings == {"url": "https://updates.example.com", "channel": "beta"}


def test_logins_can_be_read_by_root_alone() -> None:
    modes = {target.path: target.mode for target in files_of(parse(WHOLE))}
    assert modes["/var/roothome/.docker/config.json"] == 0o600


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/x",
        "/boot/x",
        "/etc",
        "/etc/../usr/x",
        "/etc/twinhull/updater.yaml",
        "/var/lib/twinhull/state.json",
        "/etc/systemd/system/web.service",
        "/etc/systemd/system/twinhull-updater.service.d/x.conf",
        "/etc/systemd/system/boot-complete.target.d/x.conf",
        "/etc/systemd/system-generators/x",
        "/etc/ld.so.preload",
        "/etc/passwd",
        "/etc/credstore/x",
        "etc/x",
    ],
)
def test_a_file_belongs_below_etc_or_var_and_to_nobody_else(path: str) -> None:
    with pytest.raises(DocumentError, match=r"files\[0\].path"):
        parse(f"files: [{{path: {path}, content: x}}]")


def test_a_drop_in_of_a_common_unit_may_be_given() -> None:
    assert "/etc/systemd/system/sshd.service.d/x.conf" in written(
        "files: [{path: /etc/systemd/system/sshd.service.d/x.conf, content: x}]"
    )


@pytest.mark.parametrize("name", ["twinhull-boot.service", "var.mount", "systemd-veritysetup@root.service", "x.conf"])
def test_units_of_the_image_cannot_be_replaced(name: str) -> None:
    with pytest.raises(DocumentError, match=r"units\[0\]"):
        parse(f"units: [{{name: {name}, content: '[Unit]', enabled: false}}]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hostnme: x", "unknown key"),
        ("hostname: Web_1", "not a host's name"),
        ("network: [{name: lan, card: en*}]", "one of dhcp: true and addresses"),
        ("network: [{name: lan, card: en*, addresses: [10.0.2.300/24]}]", "does not appear to be"),
        ("network: [{name: lan, card: en*, addresses: [10.0.2.3]}]", "no prefix"),
        ("users: [{name: admin, ssh_keys: [nonsense]}]", "not a public ssh key"),
        ("users: [{name: root, uid: 1000}]", "root can be given ssh_keys only"),
        ("files: [{path: /etc/a, content: x, mode: '4755'}]", "not a mode in octal"),
        ("files: [{path: /etc/a}]", "one of content and content_base64"),
        ('units: [{name: a.service, content: "[Service]\\nExecStart=/bin/true\\n"}]', r"no \[Install\] section"),
        ("units: [{name: a.service, content: 'hello'}]", "no section"),
        ("ca_certificates: ['hello']", "PEM form"),
        ("updater: {url: 'ftp://x'}", "http or https"),
        ("files: [{path: /etc/a, content: x}, {path: /etc/a, content: y}]", "given twice"),
        ("files: [{path: /etc/a, content: x}, {path: /etc/a/b, content: y}]", "the folder of /etc/a/b"),
        (f"registries: [{{location: example.com}}]\nfiles: [{{path: {REGISTRIES_FILE}, content: x}}]", "by two keys"),
    ],
)
def test_an_error_names_its_place(text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        parse(text)


def test_all_errors_are_listed_at_once() -> None:
    with pytest.raises(DocumentError) as caught:
        parse("hostname: '?'\nnetwork: [{name: lan}]\nserial: 0\n")
    assert len(caught.value.problems) == 3


def test_a_cut_certificate_is_refused() -> None:
    cut = CERTIFICATE.splitlines()
    del cut[3]
    text = yaml.safe_dump({"ca_certificates": ["\n".join(cut)]})
    with pytest.raises(DocumentError, match="damaged"):
        parse(text)


def test_a_document_without_end_is_not_read() -> None:
    with pytest.raises(DocumentError, match="is the most"):
        parse("#" * (MAX_DOCUMENT_BYTES + 1))


def test_an_empty_document_says_nothing() -> None:
    assert files_of(parse("")) == ()
