"""The step on a small tree; the programs that read a definition's files are played, ours really runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedrock import process
from bedrock.process import Argument, Finished
from imagebuild.content.accounts import Ids, derived_id
from imagebuild.content.settle import IDS_FILE, forgotten_services, settle
from imagebuild.errors import BuildError
from imagebuild.inspection.contents import FORMAT, Contents, EntryKind, ImageEntry, Package
from imagebuild.steps import filesystems
from imagebuild.steps.products import Kernel, PackageTree
from imagebuild.steps.workshop import Workshop
from partitions.version import Version
from tests.fakes.definitions import plan_in
from tests.fakes.played_tools import Call, PlayedTools

KEY = "-----BEGIN PRIVATE KEY-----\n" + "A" * 64 + "\n-----END PRIVATE KEY-----\n"
STATUS = """\
Package: {name}
Status: install ok installed
Version: 1
Architecture: amd64
Description: x

"""


@dataclass(frozen=True)
class TreeTools(PlayedTools):
    """Runs our own programs, and plays systemctl and what reads a definition's files.

    Attributes:
        units: States of unit files.
        says: What a program says on stderr, by its name.
    """

    units: tuple[tuple[str, str], ...] = ()
    says: tuple[tuple[str, str], ...] = ()

    def play(self, call: Call) -> Finished:
        if call.words[0] == "python3":
            return process.run(call.words, timeout_s=60)
        if call.words[0] == "systemctl":
            return call.end(json.dumps([{"unit_file": n, "state": s, "preset": None} for n, s in self.units]))
        raise AssertionError(f"nobody plays {call.words}")

    def run_in(
        self,
        system: Path,
        argv: Sequence[Argument],
        *,
        shows: Mapping[str, Path],
        timeout_s: float,
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        said = dict(self.says).get(Path(str(argv[0])).name, "")
        return Finished(tuple(map(str, argv)), 1 if said else 0, "", said)


@dataclass
class Case:
    """A build whose package tree was made."""

    shop: Workshop
    tree: PackageTree

    def file(self, path: str, text: str, *, package: str | None = None) -> None:
        target = self.tree.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        if package:
            with (self.tree.record / f"info/{package}.list").open("a") as stream:
                stream.write(f"{path}\n")

    def text(self, path: str) -> str:
        return (self.tree.root / path.lstrip("/")).read_text()

    def refused(self) -> str:
        with pytest.raises(BuildError) as caught:
            settle(self.shop, self.tree)
        return str(caught.value)


def case_of(
    folder: Path, text: str, *, units: tuple[tuple[str, str], ...] = (), says: tuple[tuple[str, str], ...] = ()
) -> Case:
    plan = plan_in(folder, f"id: host\n{text}")
    played = TreeTools(folder / "tools/abc", units=units, says=says)
    shop = Workshop(replace(plan, supply=replace(plan.supply, tools=played)), folder / "work", folder / "scratch")
    shop.make_folders()
    filesystems.stage_definition(plan.folder, shop.definition)
    filesystems.write_extra_files(shop, shop.extra)
    root, record = folder / "scratch/output/tree", folder / "scratch/output/dpkg"
    (record / "info").mkdir(parents=True)
    names = ("podman", "redis-server", "openssh-server")
    (record / "status").write_text("".join(STATUS.format(name=name) for name in names))
    for name in names:
        (record / f"info/{name}.list").write_text("/.\n")
    (record / "var.json").write_text("[]")
    (folder / "vmlinuz").write_bytes(b"no kernel in it")
    case = Case(shop, PackageTree(root, record, Kernel("6.12", folder / "vmlinuz")))
    case.file("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nredis:x:100:102::/var/lib/redis:/usr/sbin/nologin\n")
    case.file("/etc/group", "root:x:0:\nredis:x:102:\n")
    case.file("/etc/shadow", "root:*:1::::::\nredis:!:1::::::\n")
    case.file("/usr/lib/modules/6.12/modules.dep", "kernel/net/bridge/br_netfilter.ko:\n")
    case.file("/usr/lib/systemd/system/ssh.service", "[Service]\n", package="openssh-server")
    case.file("/usr/lib/sysusers.d/basic.conf", "u root 0\n")
    return case


def test_accounts_are_numbered_and_known_to_hosts_and_recorded(tmp_path: Path) -> None:
    case = case_of(tmp_path, "")
    settle(case.shop, case.tree)
    number = derived_id("redis")
    assert f"redis:x:{number}:{number}:" in case.text("/etc/passwd")
    assert [path.name for path in (case.tree.root / "usr/lib/sysusers.d").iterdir()] == ["twinhull.conf"]
    assert f"u redis {number}:{number}" in case.text("/usr/lib/sysusers.d/twinhull.conf")
    assert json.loads((case.shop.out / IDS_FILE).read_bytes())["users"] == {"redis": number, "root": 0}


def test_files_that_were_left_out_with_others_are_put_back(tmp_path: Path) -> None:
    case = case_of(tmp_path, 'hostname: web\nfiles: [{path: /etc/motd, content: hi, mode: "0600"}]')
    settle(case.shop, case.tree)
    assert (case.text("/etc/motd"), case.text("/etc/hostname")) == ("hi", "web\n")
    assert (case.tree.root / "etc/motd").stat().st_mode & 0o777 == 0o600


def test_the_time_zone_is_set(tmp_path: Path) -> None:
    case = case_of(tmp_path, "timezone: Europe/Berlin")
    case.file("/usr/share/zoneinfo/Europe/Berlin", "TZif2")
    settle(case.shop, case.tree)
    assert (case.tree.root / "etc/localtime").readlink() == Path("../usr/share/zoneinfo/Europe/Berlin")


def test_all_that_the_image_cannot_have_is_reported_together(tmp_path: Path) -> None:
    text = """
timezone: Europe/Nowhere
modules: [br_netfiltr]
services: {enable: [shs.service]}
files: [{path: /usr/bin/podman, content: x}]
"""
    case = case_of(tmp_path, text, units=(("ssh.service", "disabled"),))
    case.file("/usr/bin/podman", "x", package="podman")
    message = case.refused()
    for part in (
        "image.yaml)",
        "files[0]: /usr/bin/podman is a file of the package podman",
        "services.enable[0]: no package of the image has a unit shs.service; near it are ssh.service",
        "modules[0]: the image has no kernel module br_netfiltr",
        "timezone: the image has no zone Europe/Nowhere",
    ):
        assert part in message
    assert not (case.shop.out / IDS_FILE).exists()


def test_host_keys_are_taken_out_and_made_on_the_host(tmp_path: Path) -> None:
    case = case_of(tmp_path, "")
    case.file("/usr/sbin/sshd", "program", package="openssh-server")
    for name in ("ssh_host_ed25519_key", "ssh_host_rsa_key"):
        case.file(f"/etc/ssh/{name}", KEY)
        case.file(f"/etc/ssh/{name}.pub", "ssh-ed25519 A")
    settle(case.shop, case.tree)
    assert not list((case.tree.root / "etc/ssh").glob("ssh_host*"))
    assert "HostKey /var/lib/ssh/ssh_host_ed25519_key" in case.text("/etc/ssh/sshd_config.d/10-twinhull.conf")
    assert "ssh-keygen" in case.text("/usr/lib/systemd/system/ssh-host-key@.service")
    # systemd would let the server listen on sockets of its own, and complains where the hypervisor offers none.
    masked = case.tree.root / "etc/systemd/system-generators/systemd-ssh-generator"
    assert str(masked.readlink()) == "/dev/null"


def test_a_host_key_that_the_definition_gives_is_not_taken_out_without_a_word(tmp_path: Path) -> None:
    path = "/etc/ssh/ssh_host_rsa_key"
    case = case_of(tmp_path / "a", f"files: [{{path: {path}, content: {json.dumps(KEY)}}}]")
    case.file(path, KEY)
    assert f"{path} holds a private key" in case.refused()
    allowed = case_of(tmp_path / "b", f"secrets: {{allow: [{path}]}}")
    allowed.file(path, KEY)
    settle(allowed.shop, allowed.tree)
    assert allowed.text(path) == KEY


def test_an_image_without_a_server_has_nothing_of_it(tmp_path: Path) -> None:
    case = case_of(tmp_path, "")
    settle(case.shop, case.tree)
    assert not (case.tree.root / "etc/ssh").exists()
    assert not (case.tree.root / "etc/systemd/system-generators").exists()


def test_a_baked_key_ends_the_build_unless_it_was_asked_for(tmp_path: Path) -> None:
    text = "files: [{path: /etc/app/tls.pem, source: key.pem}]"
    (tmp_path / "a/definition").mkdir(parents=True)
    (tmp_path / "b/definition").mkdir(parents=True)
    for name in "ab":
        (tmp_path / name / "definition/key.pem").write_text(KEY)
    case = case_of(tmp_path / "a", text)
    with pytest.raises(BuildError, match="the image holds secrets") as caught:
        settle(case.shop, case.tree)
    assert "/etc/app/tls.pem holds a private key" in str(caught.value)
    hints = " ".join(caught.value.hints)
    assert all(way in hints for way in ("`twinhull provision`", "`units`", "`drop`", "`secrets: {allow: "))
    allowed = case_of(tmp_path / "b", f"{text}\nsecrets: {{allow: [/etc/app/tls.pem]}}")
    settle(allowed.shop, allowed.tree)


def test_what_a_program_says_of_a_file_ends_the_build_with_its_line(tmp_path: Path) -> None:
    text = 'units: [{name: a.service, content: "[Service]\\nExecStrat=/bin/true\\n"}]'
    said = "/usr/lib/systemd/system/a.service:2: Unknown key 'ExecStrat' in section [Service], ignoring.\n"
    case = case_of(tmp_path, text, says=(("systemd-analyze", said),))
    assert "units[0].content (a.service), line 2: Unknown key 'ExecStrat'" in case.refused()


def test_state_of_packages_is_made_at_the_first_boot(tmp_path: Path) -> None:
    case = case_of(tmp_path, "")
    rows = [
        {"path": "/var/lib/redis", "kind": "folder", "mode": 0o750, "user": "redis", "group": "redis", "shipped": True},
        {"path": "/var/lib/made", "kind": "folder", "mode": 0o755, "user": "root", "group": "root", "shipped": True},
        {
            "path": "/var/lib/redis/seed",
            "kind": "file",
            "mode": 0o600,
            "user": "redis",
            "group": "redis",
            "shipped": False,
        },
    ]
    (case.tree.record / "var.json").write_text(json.dumps([{**row, "size_bytes": 9} for row in rows]))
    case.file("/usr/lib/tmpfiles.d/made.conf", "d /var/lib/made 0755 - - -\n")
    settle(case.shop, case.tree)
    assert case.text("/usr/lib/tmpfiles.d/twinhull-state.conf").splitlines()[1:] == [
        "d /var/lib/redis 0750 redis redis -"
    ]
    assert "/var/lib/redis/seed was written by a maintainer's script" in case.shop.log.read_text()


def test_an_id_that_is_not_that_of_the_earlier_version_ends_the_build(tmp_path: Path) -> None:
    case = case_of(tmp_path, "")
    for version, number in (("0.9.0", 345), ("0.8.0", derived_id("redis"))):
        earlier = case.shop.plan.out.parent / version
        earlier.mkdir(parents=True)
        (earlier / "inputs.json").write_text(json.dumps({"digest": "d", "version": version, "image": "host"}))
        (earlier / IDS_FILE).write_text(json.dumps(vars(Ids({"redis": number}, {"redis": number}))))
    message = case.refused()
    assert f"redis has the id {derived_id('redis')}, and had 345 in 0.9.0" in message
    assert "users: [{name: redis, id: 345}]" in message


def test_what_is_said_of_a_packages_user_and_has_no_effect_is_an_error(tmp_path: Path) -> None:
    case = case_of(tmp_path, "users: [{name: redis, home: /srv/redis}]")
    assert "users[0].home: redis is a package's user and has '/var/lib/redis', not '/srv/redis'" in case.refused()


def test_packages_of_which_nothing_starts_are_named(tmp_path: Path) -> None:
    case = case_of(tmp_path, "", units=(("ssh.service", "disabled"), ("base.service", "disabled")))
    settled = settle(case.shop, case.tree)
    packages = tuple(Package(name, "1", "amd64", name, "1", "", (), ()) for name in ("openssh-server", "base"))
    folder = "/usr/lib/systemd/system"
    contents = Contents(
        FORMAT,
        "host",
        Version("1.0.0"),
        {"openssh-server": "image.yaml: packages", "base": "every Twinhull image"},
        packages,
        (
            ImageEntry(f"{folder}/ssh.service", EntryKind.FILE, 0o644, 1, "openssh-server"),
            ImageEntry(f"{folder}/base.service", EntryKind.FILE, 0o644, 1, "base"),
        ),
    )
    services = case.shop.plan.definition.services
    assert forgotten_services(settled, contents, services) == {"openssh-server": ("ssh.service",)}


def test_a_unit_whose_health_decides_must_be_in_the_image(tmp_path: Path) -> None:
    units = ("podman.socket", "ssh.service", "getty@tty1.service", "dev-vda.device")
    checks = ", ".join(f"{name.partition('.')[0].replace('@', '-')}: {{unit: {name}}}" for name in units)
    text = f"updater: {{health: {{checks: {{{checks}}}}}}}"
    case = case_of(tmp_path, text, units=(("getty@.service", "disabled"),))
    message = case.refused()
    assert "updater.health.checks.podman: the image has no unit podman.socket" in message
    assert message.count("updater.health.checks") == 1


def test_a_login_by_key_needs_its_user(tmp_path: Path) -> None:
    key = f"ssh-ed25519 {'A' * 60}"
    message = case_of(tmp_path / "a", f"ssh: {{user: alice, keys: [{key}]}}").refused()
    assert "ssh.user: the image has no user alice" in message
    root = case_of(tmp_path / "b", f"ssh: {{keys: [{key}]}}")
    settle(root.shop, root.tree)


def test_a_key_that_a_package_made_is_taken_out_and_said_so(tmp_path: Path) -> None:
    key, certificate = "/etc/ssl/private/ssl-cert-snakeoil.key", "/etc/ssl/certs/ssl-cert-snakeoil.pem"
    case = case_of(tmp_path / "a", "")
    case.file(key, KEY)
    case.file(certificate, "certificate")
    (note,) = settle(case.shop, case.tree).notes
    assert note.startswith(key)
    assert not (case.tree.root / key.lstrip("/")).exists()
    assert not (case.tree.root / certificate.lstrip("/")).exists()
    allowed = case_of(tmp_path / "b", f"secrets: {{allow: [{key}]}}")
    allowed.file(key, KEY)
    assert settle(allowed.shop, allowed.tree).notes == ()
    assert allowed.text(key) == KEY
