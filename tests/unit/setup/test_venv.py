"""When the virtual environment is kept and when it is made again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from setup import venv


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / venv.LOCK).write_text("click==8.1.8\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


def fingerprint(root: Path, *, interpreter: str = "/usr/bin/python3.11", version: str = "3.11.2") -> str:
    return venv.fingerprint(root, interpreter=interpreter, version=version)


def test_equal_inputs_give_equal_fingerprints(root: Path) -> None:
    assert fingerprint(root) == fingerprint(root)


@pytest.mark.parametrize("name", [venv.LOCK, "pyproject.toml"])
def test_a_changed_input_file_changes_the_fingerprint(root: Path, name: str) -> None:
    before = fingerprint(root)
    (root / name).write_text("other\n")
    assert fingerprint(root) != before


def test_another_python_changes_the_fingerprint(root: Path) -> None:
    assert fingerprint(root) != fingerprint(root, interpreter="/usr/bin/python3.12")
    assert fingerprint(root) != fingerprint(root, version="3.11.3")


def test_an_environment_of_the_same_inputs_is_kept(root: Path) -> None:
    (root / venv.FOLDER).mkdir()
    base = str(Path(sys.executable).resolve())
    wanted = fingerprint(root, interpreter=base, version=sys.version)
    (root / venv.FOLDER / "twinhull-stamp").write_text(wanted + "\n")
    said: list[str] = []
    assert venv.ensure_venv(root, said.append) == root / ".venv/bin/python"
    assert said == []
