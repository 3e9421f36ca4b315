"""Files that the ways into a host put into its image."""

from __future__ import annotations

from pathlib import Path

from imagebuild.definition.access import Ssh
from imagebuild.definition.containers import Containers, SignaturePolicy, SignedScope
from imagebuild.definition.image import BuildProfile, ImageDefinition
from imagebuild.steps.access import write_access, write_policy

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFIq0EVZhBPrPP5W0vSbKYPPmSVSMLgHkLmkjS8lGDHe alice@example.com"
UNITS = "usr/lib/systemd/system"


def names(tree: Path) -> set[str]:
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def test_a_plain_image_has_no_way_in(tmp_path: Path) -> None:
    definition = ImageDefinition(id="host")
    write_access(definition, None, tmp_path)
    write_policy(definition, tmp_path, tmp_path)
    assert names(tmp_path) == set()


def test_the_debug_profile_logs_root_in_on_every_kind_of_console(tmp_path: Path) -> None:
    write_access(ImageDefinition(id="host"), BuildProfile.DEBUG, tmp_path)
    for unit in ("getty@", "serial-getty@", "console-getty"):
        text = (tmp_path / UNITS / f"{unit}.service.d/20-autologin.conf").read_text()
        lines = [line for line in text.splitlines() if line.startswith("ExecStart=")]
        assert lines[0] == "ExecStart="
        assert "--autologin root" in lines[1]


def test_ssh_is_enabled_with_the_keys_and_without_passwords(tmp_path: Path) -> None:
    write_access(ImageDefinition(id="host", ssh=Ssh(keys=(KEY,), user="alice")), None, tmp_path)
    assert (tmp_path / "etc/ssh/authorized_keys.d/alice").read_text() == f"{KEY}\n"
    settings = (tmp_path / "etc/ssh/sshd_config.d/20-image.conf").read_text().splitlines()
    assert "PasswordAuthentication no" in settings
    assert "AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u .ssh/authorized_keys" in settings
    assert (tmp_path / "usr/lib/systemd/system-preset/20-ssh.preset").read_text() == "enable ssh.service\n"


def test_a_policy_comes_with_its_keys(tmp_path: Path) -> None:
    (tmp_path / "web.pub").write_text("the key")
    policy = SignaturePolicy(signed=(SignedScope("registry.test/web", "web.pub"),))
    write_policy(ImageDefinition(id="host", containers=Containers(policy)), tmp_path, tmp_path / "tree")
    assert (tmp_path / "tree/etc/containers/keys/registry.test_web.pub").read_text() == "the key"
    assert (tmp_path / "tree/etc/containers/policy.json").read_bytes() == policy.policy_json()
    assert "use-sigstore-attachments: true" in (tmp_path / "tree/etc/containers/registries.d/10-image.yaml").read_text()
