from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.errors import VmError
from imagebuild.vm.guest import (
    Answer,
    End,
    GuestRebootedError,
    GuestShell,
    Ready,
    guest_shell_credentials,
    parse_line,
)
from tests.fakes.vm_sockets import ScriptedGuest, served


def alive() -> None:
    """A machine that is well."""


@contextmanager
def shell_of(guest: ScriptedGuest, folder: Path) -> Iterator[GuestShell]:
    path = folder / "guest"
    with served(path, guest), closing(GuestShell(path, check=alive)) as shell:
        yield shell


def test_a_boot_announces_itself() -> None:
    assert parse_line(b"ready 0c1d") == Ready("0c1d")


@given(code=st.integers(0, 255), output=st.text(max_size=50))
def test_every_answer_is_read_back(code: int, output: str) -> None:
    encoded = base64.b64encode(output.encode(errors="replace"))
    line = b"end r1 %d %s" % (code, encoded)
    assert parse_line(line) == End("r1", Answer(code, output.encode(errors="replace").decode()))


@given(
    line=st.binary(max_size=60).filter(lambda line: not line.split()[:1] or line.split()[0] not in {b"ready", b"end"})
)
def test_noise_on_the_port_is_passed_over(line: bytes) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize("line", [b"end", b"end r1", b"end r1 x", b"end r1 0 ***", b"end r1 0 YQ== YQ==", b"ready"])
def test_a_garbled_line_is_passed_over(line: bytes) -> None:
    assert parse_line(line) is None


def test_a_command_returns_its_exit_code_and_output(tmp_path: Path) -> None:
    with shell_of(ScriptedGuest({"ls /x": (2, "no such file\n")}), tmp_path) as shell:
        assert shell.run("ls /x", timeout_s=60) == Answer(2, "no such file\n")
        assert shell.boot_id == "boot-1"


def test_a_command_that_must_succeed_raises_with_its_output(tmp_path: Path) -> None:
    failed = pytest.raises(VmError, match=r"exit code 1\nwhy")
    with shell_of(ScriptedGuest({"false": (1, "why\n")}), tmp_path) as shell, failed:
        shell.check_run("false", timeout_s=60)


def test_a_reboot_in_the_middle_of_a_command_is_told(tmp_path: Path) -> None:
    with shell_of(ScriptedGuest({"sleep": b"\nready boot-2\n"}), tmp_path) as shell:
        with pytest.raises(GuestRebootedError):
            shell.run("sleep", timeout_s=60)
        assert shell.boot_id == "boot-2"


def test_an_asked_for_reboot_ends_in_another_boot(tmp_path: Path) -> None:
    outcomes: dict[str, tuple[int, str] | bytes] = {"systemctl reboot": b"end r1 0 \n\nready boot-1\nready boot-2\n"}
    with shell_of(ScriptedGuest(outcomes), tmp_path) as shell:
        assert shell.reboot(timeout_s=60) == "boot-2"


def test_an_answer_to_an_older_command_is_not_taken(tmp_path: Path) -> None:
    outcomes: dict[str, tuple[int, str] | bytes] = {"a": b"end r0 0 b2xk\nend r1 0 bmV3\n"}
    with shell_of(ScriptedGuest(outcomes), tmp_path) as shell:
        assert shell.run("a", timeout_s=60).output == "new"


def test_waiting_ends_early_when_the_machine_is_gone(tmp_path: Path) -> None:
    def gone() -> None:
        raise VmError("the machine ended")

    path = tmp_path / "guest"
    ended = pytest.raises(VmError, match="the machine ended")
    with served(path, ScriptedGuest({}, greeting=b"noise\n")), closing(GuestShell(path, check=gone)) as shell, ended:
        shell.wait_ready(timeout_s=600)


def test_the_unit_is_pulled_in_and_finds_its_script() -> None:
    by_name = {credential.name: credential.value.decode() for credential in guest_shell_credentials()}
    unit = by_name["systemd.extra-unit.hypervisor-shell.service"]
    assert "ImportCredential=twinhull.guest-shell" in unit
    assert "hypervisor-shell.service" in by_name["systemd.unit-dropin.multi-user.target"]
    assert "/dev/virtio-ports/twinhull.guest" in by_name["twinhull.guest-shell"]
