"""What belongs to the agent's program and what stays at home."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagebuild.errors import BuildError
from imagebuild.inputs import wheels
from imagebuild.inputs.tools import PACKAGES, ToolsTree
from imagebuild.steps import agent_program as payload

REPOSITORY = Path(__file__).resolve().parents[4]


def source_tree(folder: Path) -> Path:
    for name, text in {
        "updater/__init__.py": "",
        "updater/agent/__init__.py": "",
        "updater/agent/cli.py": "from updater.documents.release import x\nimport bedrock.a",
        "updater/documents/release.py": "",
        "updater/server/__init__.py": "",
        "updater/transfer/__init__.py": "",
        "updater/transfer/worker.py": "import bedrock.b",
        "bedrock/b.py": "",
        "bedrock/__init__.py": "",
        "bedrock/a.py": "",
        "bedrock/unused.py": "",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_only_modules_the_agent_reaches_are_shipped(tmp_path: Path) -> None:
    assert [str(path) for path in payload.agent_sources(source_tree(tmp_path))] == [
        "bedrock/__init__.py",
        "bedrock/a.py",
        "bedrock/b.py",
        "updater/__init__.py",
        "updater/agent/__init__.py",
        "updater/agent/cli.py",
        "updater/documents/release.py",
        "updater/transfer/__init__.py",
        "updater/transfer/worker.py",
    ]


def test_a_tree_without_the_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no updater\.agent\.cli, updater\.transfer\.worker"):
        payload.agent_sources(tmp_path)
    source_tree(tmp_path)
    (tmp_path / "updater/transfer/worker.py").unlink()
    with pytest.raises(BuildError, match=r"no updater\.transfer\.worker"):
        payload.agent_sources(tmp_path)


@pytest.mark.parametrize(
    ("name", "unwanted"),
    [
        ("tuf-7.0.1.dist-info/METADATA", True),
        ("securesystemslib/_vendor/ed25519/test_data/ed25519", True),
        ("zstandard/_cffi.cpython-313-x86_64-linux-gnu.so", True),
        ("zstandard/backend_c.cpython-313-x86_64-linux-gnu.so", False),
        ("_cffi_backend.cpython-313-x86_64-linux-gnu.so", False),
        ("cryptography/hazmat/bindings/_rust.abi3.so", False),
        ("cryptography/py.typed", True),
        ("urllib3/contrib/__init__.py", False),
    ],
)
def test_dead_weight_of_the_wheels_is_left_out(name: str, *, unwanted: bool) -> None:
    assert payload.is_dead_weight(name) is unwanted


def test_libraries_of_a_package_are_read_from_its_list(tmp_path: Path) -> None:
    lists = tmp_path / "var/lib/dpkg/info"
    lists.mkdir(parents=True)
    (lists / "zlib1g:amd64.list").write_text("/usr/lib/x86_64-linux-gnu/libz.so.1\n/usr/share/doc/zlib1g\n")
    (lists / "zlib1g-dev:amd64.list").write_text("/usr/lib/x86_64-linux-gnu/libother.so\n")
    assert payload.libraries_of(("zlib1g",), tmp_path) == {"libz.so.1"}


def test_the_cpu_is_read_from_the_interpreter(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_bytes(b"\x7fELF" + bytes(14) + (183).to_bytes(2, "little"))
    assert wheels.machine_of(program) == "aarch64"
    program.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(BuildError, match="CPU"):
        wheels.machine_of(program)


def inputs_key(root: Path, tools: Path, *, epoch: int = 1) -> str:
    inputs = payload.PayloadInputs(ToolsTree(tools), root, payload.agent_sources(root), epoch)
    return payload.fingerprint(inputs)


def test_the_cache_key_follows_every_input(tmp_path: Path) -> None:
    root, tools = source_tree(tmp_path / "src"), tmp_path / "tools"
    for name in ("usr/bin/python3.13", "var/lib/dpkg/status"):
        (tools / name).parent.mkdir(parents=True)
        (tools / name).write_text("1")
    first = inputs_key(root, tools)
    assert inputs_key(root, tools) == first
    assert inputs_key(root, tools, epoch=2) != first
    (root / "bedrock/unused.py").write_text("x = 1")
    assert inputs_key(root, tools) == first, "what is not shipped does not count"
    (root / "bedrock/a.py").write_text("x = 1")
    changed = inputs_key(root, tools)
    assert changed != first
    (tools / "usr/bin/python3.13").write_text("2")
    assert inputs_key(root, tools) != changed


def test_the_agent_of_this_repository_brings_no_server_and_no_keys() -> None:
    tops = {"/".join(path.parts[:2]) for path in payload.agent_sources(REPOSITORY)}
    assert not {top for top in tops if top.startswith(("imagebuild", "updater/server", "updater/repository"))}
    # What firmware's lists and signed programs look like, and no key.
    assert {top for top in tops if top.startswith("keys")} == {"keys/__init__.py", "keys/errors.py", "keys/secureboot"}


def test_the_tools_tree_holds_what_is_borrowed_from_debian() -> None:
    assert "python3-cryptography" in PACKAGES
    locked = (REPOSITORY / "imagebuild/data/agent.lock").read_text()
    assert not [name for name in payload.BORROWED if re.search(rf"(?m)^{name}==", locked)]


def test_every_image_holds_the_packages_the_agent_needs() -> None:
    named = (REPOSITORY / "imagebuild/data/image.conf").read_text().split()
    assert set(payload.PAYLOAD_PACKAGES) - {"libc6"} <= set(named)
