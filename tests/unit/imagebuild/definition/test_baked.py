from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition.baked import baked, definition_paths, presets, template_of
from tests.fakes.definitions import definition_of

EVERYTHING = """
id: host
hostname: web-1
timezone: Europe/Berlin
locale: de_DE.UTF-8
modules: [br_netfilter]
sysctl: {net.ipv4.ip_forward: 1, kernel.core_pattern: "|/bin/false"}
groups:
- {name: shared, id: 700}
- {name: other}
users:
- {name: app, id: 850, groups: [video], home: /var/lib/app, comment: "the app"}
- {name: batch, group: shared}
services: {enable: [ssh.service, getty@tty2.service], disable: [a.timer], mask: [b.service]}
files:
- {path: /var/lib/app/a b, content: x, mode: "0640"}
- {path: /etc/motd, content: hello}
units:
- {name: c.service, content: "[Service]"}
"""


def test_the_keys_of_a_host_become_files_that_systemd_reads(tmp_path: Path) -> None:
    files = baked(definition_of(tmp_path, EVERYTHING)).files
    assert files == {
        "/etc/hostname": "web-1\n",
        "/usr/lib/modules-load.d/10-image.conf": "br_netfilter\n",
        "/usr/lib/sysctl.d/90-image.conf": "net.ipv4.ip_forward = 1\nkernel.core_pattern = |/bin/false\n",
        "/usr/lib/sysusers.d/10-image.conf": (
            "g shared 700\ng other -\n"
            'u app 850 "the app" /var/lib/app /usr/sbin/nologin\nm app video\n'
            'g shared -\nu batch -:shared "" - /usr/sbin/nologin\n'
        ),
        "/usr/lib/tmpfiles.d/10-image.conf": (
            'C "/var/lib/app/a b" 0640 root root - "/usr/share/factory/var/lib/app/a b"\n'
            "d /var/lib/app 0700 app app -\n"
        ),
        "/usr/lib/systemd/system-preset/10-image.preset": (
            "enable ssh.service\nenable getty@.service tty2\ndisable a.timer\ndisable b.service\nenable c.service\n"
        ),
    }


def test_a_masked_unit_is_a_link_that_a_host_can_take_away(tmp_path: Path) -> None:
    assert baked(definition_of(tmp_path, EVERYTHING)).links == {"/etc/systemd/system/b.service": "/dev/null"}


def test_an_image_that_asks_for_nothing_gets_no_file(tmp_path: Path) -> None:
    assert definition_paths(definition_of(tmp_path, "id: host\n")) == frozenset()


def test_what_is_in_the_image_because_of_the_definition_is_known(tmp_path: Path) -> None:
    paths = definition_paths(definition_of(tmp_path, EVERYTHING))
    assert {"/usr/share/factory/var/lib/app/a b", "/etc/motd", "/usr/lib/systemd/system/c.service"} < paths


@pytest.mark.parametrize(
    ("unit", "file"), [("a.service", "a.service"), ("a@b.service", "a@.service"), ("a@.timer", "a@.timer")]
)
def test_an_instance_has_the_file_of_its_template(unit: str, file: str) -> None:
    assert template_of(unit) == file


def test_the_definitions_units_are_enabled_as_they_say(tmp_path: Path) -> None:
    text = """
id: host
units:
- {name: a.service, content: ""}
- {name: b.timer, content: "", enabled: false}
- {name: c.container, content: ""}
"""
    assert presets(definition_of(tmp_path, text)) == "enable a.service\ndisable b.timer\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hostname: Web", "hostname"),
        ("hostname: a..b", "hostname"),
        ("timezone: ../x", "timezone"),
        ("locale: de_DE", "locale"),
        ("modules: [a b]", "modules"),
        ("sysctl: {forward: 1}", "forward"),
        ('sysctl: {net.ipv4.ip_forward: "1\\n2"}', "net.ipv4.ip_forward"),
        ("sysctl: {net.ipv4.ip_forward: true}", "net.ipv4.ip_forward"),
        ("users: [{name: Root}]", "users"),
        ("users: [{name: app, id: 99}]", "users"),
        ("users: [{name: app, id: 60001}]", "users"),
        ("users: [{name: a}, {name: a}]", "users holds a more than once"),
        ("users: [{name: a, id: 300}, {name: b, id: 300}]", "users gives the id 300 to a and to b"),
        ("{users: [{name: a, id: 300}], groups: [{name: a, id: 301}]}", "a has the id 300 in users and 301 in groups"),
        ("services: {enable: [ssh]}", "services"),
        ("services: {enable: [a.service], mask: [a.service]}", "more than once"),
        ("secrets: {allow: [key]}", "secrets"),
        ("files: [{path: /run/x, content: x}]", "tmpfiles.d"),
        ("files: [{path: /opt/x, content: x}, {path: /var/opt/x, content: x}]", "given twice"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_key(tmp_path: Path, text: str, message: str) -> None:
    whole = f"{{id: host, {text[1:]}" if text.startswith("{") else f"id: host\n{text}\n"
    with pytest.raises(DocumentError) as caught:
        definition_of(tmp_path, whole)
    assert message in "\n".join(map(str, caught.value.problems))
