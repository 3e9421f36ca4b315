from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import VmError
from imagebuild.vm.qmp import Qmp
from tests.fakes.vm_sockets import ScriptedQemu, served


def test_a_command_returns_what_qemu_returns(tmp_path: Path) -> None:
    qemu = ScriptedQemu({"query-status": {"running": True}})
    with served(tmp_path / "qmp", qemu), Qmp.connect(tmp_path / "qmp") as qmp:
        assert qmp.execute("query-status", {"a": 1}) == {"running": True}
    assert qemu.heard[-1] == {"execute": "query-status", "arguments": {"a": 1}}


def test_a_refused_command_is_an_error_with_qemus_reason(tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    refused = pytest.raises(VmError, match="no command fly")
    with served(path, ScriptedQemu({})), Qmp.connect(path) as qmp, refused:
        qmp.execute("fly")


def test_a_socket_that_closes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    closing = served(path, lambda connection: connection.sendall(b"{}\n"))
    with closing, pytest.raises(VmError, match="QEMU"):
        Qmp.connect(path)


def test_what_does_not_speak_the_protocol_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    closing = served(path, lambda connection: connection.sendall(b"220 mail ready\n"))
    with closing, pytest.raises(VmError, match="control socket"):
        Qmp.connect(path)
