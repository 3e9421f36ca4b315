from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition import config
from tests.fakes.definitions import definition_of

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFIq0EVZhBPrPP5W0vSbKYPPmSVSMLgHkLmkjS8lGDHe alice@example.com"


def test_keys_bring_the_server_and_nothing_else_does(tmp_path: Path) -> None:
    closed = definition_of(tmp_path, "id: host\n")
    opened = definition_of(tmp_path, f"id: host\nssh: {{keys: ['{KEY}']}}\n")
    assert "openssh-server" not in config.requested_packages(closed)
    assert "openssh-server" in config.requested_packages(opened)
    assert opened.ssh.keys_path == "/etc/ssh/authorized_keys.d/root"


@pytest.mark.parametrize("key", ["ssh-ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----", f"{KEY}\\n{KEY}", "AAAA me"])
def test_what_is_no_public_key_on_one_line_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(DocumentError, match="a public ssh key on one line"):
        definition_of(tmp_path, f'id: host\nssh: {{keys: ["{key}"]}}\n')


def test_the_rescue_entry_starts_the_same_system_up_to_a_shell(tmp_path: Path) -> None:
    definition = definition_of(tmp_path, "id: host\nkernel_arguments: [quux]\n")
    usual = config.kernel_arguments(definition, "ab" * 32)
    rescue = config.rescue_arguments(definition, "ab" * 32)
    assert rescue == f"{usual.removesuffix(' --')} systemd.unit=rescue.target --"
