"""The provisioning document: what it may say, what it comes to."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bedrock.errors import DocumentError
from tests.fakes.provisions import CERTIFICATE, WHOLE
from updater.provision.document import Provision, User
from updater.provision.files import files_of, user_lines
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # A document that a host cannot apply is refused before anything is written there.
        ("files: [{path: /etc/" + "a" * 201 + ", content: x}]", r"files\[0\].path.*longer than"),
        ("files: [{path: /etc/" + "ä" * 101 + ", content: x}]", r"files\[0\].path.*longer than"),
        ("files: [{path: /etc" + "/a" * 600 + ", content: x}]", r"files\[0\].path.*longer than"),
        ('files: [{path: "/etc/a\\nb", content: x}]', r"files\[0\].path"),
        ('files: [{path: "/etc/a\\0b", content: x}]', r"files\[0\].path"),
        ("files: [{path: ., content: x}]", r"files\[0\].path"),
        ("files: [{path: /etc/a, content_base64: ä}]", "not base64"),
        ("units: [{name: ../a.service, content: '[Unit]', enabled: false}]", r"units\[0\].name"),
        ('units: [{name: "a.service\\n", content: "[Unit]", enabled: false}]', r"units\[0\].name"),
        ('hostname: "web-1\\n"', "hostname"),
        ("users: [{name: ab, ssh_keys: ['command=\"x\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5']}]", "ssh key"),
        ('users: [{name: ab, ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\\nssh-ed25519 AAAA"]}]', "ssh key"),
        ("users: [{name: ab, uid: 1000}, {name: cd, uid: 1000}]", "1000 is given twice"),
        ('network: [{name: a, card: a, dhcp: true, dns: ["fe80::1%a\\nGateway=::1"]}]', r"network\[0\].dns\[0\]"),
        ('network: [{name: a, card: a, addresses: ["fe80::1%a\\nDHCP=yes/64"]}]', r"network\[0\].addresses\[0\]"),
        ('proxy: {http: "http://a\\0b"}', "proxy.http"),
        ('updater: {url: "http://a\\0b"}', "updater.url"),
        ("registries: [{location: " + "a" * 256 + "}]", r"registries\[0\].location"),
        ("hostname: one\n---\nhostname: two\n", "another document"),
        ("hostname: one\nhostname: two\n", "given twice"),
        ("hostname: one\nswap: 1G\n", "swap: unknown key"),
    ],
)
def test_what_no_host_could_take_is_an_error_of_the_document(text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        parse(text)


def test_an_address_may_name_its_card() -> None:
    files = written("network: [{name: a, card: a, dhcp: true, dns: ['fe80::1%eth0']}]")
    assert "DNS=fe80::1%eth0\n" in files["/etc/systemd/network/10-provision-a.network"]


@pytest.mark.parametrize(
    "text",
    [
        "registries: [{location: registry.example.com, login: h0rse}]",
        'registries: [{location: registry.example.com, login: {username: a, password: "h0rse\\nx"}}]',
        "registries: [{location: registry.example.com, login: {username: a, password: *h0rse}}]",
        "files: [{path: /etc/a, content: [h0rse]}]",
        "files: [{path: /etc/a, content_base64: h0rse}]",
        "files: [{path: /etc/a, content: 'h0rse}]",
        "units: [{name: a.service, content: h0rse}]",
        "proxy: {https: 'http://me:h0rse@proxy.example.com/ x'}",
    ],
)
def test_an_error_shows_no_secret(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text)
    assert "h0rse" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        'ca_certificates: ["-----BEGIN CERTIFICATE-----' + " \\n" * 100_000 + '"]',
        "files: [{path: /etc" + "/a" * 190_000 + ", content: x}]",
        "".join(f"k{n}: x\n" for n in range(3_000)),
    ],
    ids=["spaces", "one deep path", "unknown keys"],
)
def test_a_document_made_to_keep_a_host_busy_is_soon_refused(text: str) -> None:
    began = time.process_time()
    with pytest.raises(DocumentError):
        parse(text)
    # The host starts nothing that needs its name or its network meanwhile.
    assert time.process_time() - began < 20


@given(st.binary(max_size=400))
def test_whatever_comes_is_a_document_or_an_error_of_one(data: bytes) -> None:
    with suppress(DocumentError):
        files_of(parse_provision(data, source="x"))


_MORE = ("\n", "- ", ": ", "{", "}", "*a", "&a ", "!!int ", "'", '"', "\\ud800", "0x")
_SNIPPETS = st.sampled_from((*WHOLE, *_MORE))


@given(st.integers(0, len(WHOLE)), st.integers(0, 40), st.lists(_SNIPPETS, max_size=6))
def test_a_document_that_was_garbled_is_a_document_or_an_error_of_one(at: int, lost: int, more: list[str]) -> None:
    with suppress(DocumentError):
        files_of(parse_provision((WHOLE[:at] + "".join(more) + WHOLE[at + lost :]).encode(), source="x"))


def test_a_user_without_a_number_has_one_that_follows_from_the_name() -> None:
    one, same, other = User("admin"), User("admin", shell=None), User("operator")
    assert one.number == same.number
    assert one.number != other.number
    assert all(10_000 <= user.number <= 60_000 for user in (one, other))
    assert User("admin", uid=1500).number == 1500
    assert user_lines((one,)).startswith(f'u admin {one.number} "admin" /home/admin ')


def test_two_users_with_one_number_are_refused() -> None:
    taken = User("admin").number
    with pytest.raises(DocumentError, match="numbers of users"):
        parse_provision(f"users: [{{name: admin}}, {{name: other, uid: {taken}}}]\n".encode(), source="x")


@pytest.mark.parametrize("path", ["health.d/50-app", "health.d/wanted.d/60-app", "before-reboot.d/drain"])
def test_an_operator_s_own_checks_and_hooks_may_come_in_a_document(path: str) -> None:
    (file,) = parse(f"files: [{{path: /etc/twinhull/{path}, content: x, mode: '0755'}}]\n").files
    assert str(file.path) == f"/etc/twinhull/{path}"


@pytest.mark.parametrize(
    "path", ["updater.yaml", "updater.d/x.yaml", "health.d", "health.d/../updater.yaml", "other.d/x"]
)
def test_the_agent_s_other_files_may_not(path: str) -> None:
    with pytest.raises(DocumentError):
        parse(f"files: [{{path: /etc/twinhull/{path}, content: x}}]\n")
