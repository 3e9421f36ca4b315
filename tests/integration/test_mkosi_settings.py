"""A definition's own mkosi files, read by mkosi itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition.image import load_definition
from imagebuild.definition.mkosi import HONOURED, KNOWN
from imagebuild.inputs.requested import asked_packages
from imagebuild.inputs.tools import Access, ToolsTree
from tests.fakes.definitions import write_definition

TAKEN = """\
[Config]
MinimumVersion=24
[Content]
Packages=jq
BuildPackages=gcc
VolatilePackages=tree
RemoveFiles=/usr/share/x
RemovePackages=perl
KernelModulesExclude=^fs/x/
KernelModulesInclude=^fs/y/
ExtraTrees=more
[Build]
BuildSources=more
Environment=A=b
"""
SCRIPTS = ("sync", "prepare", "build", "postinst", "finalize", "postoutput", "clean")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_definition(tmp_path / "host")


def packages(folder: Path, tools: ToolsTree) -> tuple[str, ...]:
    return asked_packages(folder, load_definition(folder), tools=tools).root[None]


def test_the_table_names_settings_that_mkosi_has(tools: ToolsTree, folder: Path) -> None:
    (folder / "mkosi.conf").write_text("[Distribution]\nDistribution=debian\n")
    done = tools.run(
        ["mkosi", "--directory", folder, "--json", "summary"], Access(read=(folder,)), timeout_s=120, cwd=folder
    )
    assert json.loads(done.stdout)["Images"][-1].keys() >= HONOURED | KNOWN


def test_what_is_taken_over_is_no_error(tools: ToolsTree, folder: Path) -> None:
    (folder / "mkosi.conf").write_text(TAKEN)
    for name in ("mkosi.extra", "mkosi.skeleton", "more"):
        (folder / name).mkdir()
    (folder / "mkosi.env").write_text("C=d\n")
    for name in SCRIPTS:
        (folder / f"mkosi.{name}").write_text("#!/bin/sh\n")
        (folder / f"mkosi.{name}").chmod(0o755)
    assert {"jq", "gcc", "tree"} <= set(packages(folder, tools))


@pytest.mark.parametrize(
    ("section", "setting", "key"),
    [
        ("Distribution", "Repositories=main,non-free-firmware", "components"),
        ("Distribution", "Mirror=http://mirror.test/debian", "mirror"),
        ("Content", "Timezone=Europe/Berlin", "timezone"),
        ("Content", "Locale=de_DE.UTF-8", "locale"),
        ("Content", "Hostname=host-1", "hostname"),
        ("Content", "RootPassword=hashed:x", "ssh"),
        ("Content", "KernelModulesIncludeHost=yes", "keep_modules"),
        ("Content", "KernelModulesInitrdExclude=.*", "drivers"),
        ("Content", "KernelCommandLine=quiet", "kernel_arguments"),
        ("Content", "WithRecommends=yes", "packages"),
        ("Output", "ImageVersion=7", "--version"),
        ("Output", "Seed=5d1b2d3e-7f0c-4b62-9f0d-6c8f0a3f1a11", ""),
    ],
)
def test_what_is_not_is_refused_by_name(tools: ToolsTree, folder: Path, section: str, setting: str, key: str) -> None:
    (folder / "mkosi.conf.d").mkdir()
    # With a condition, which only mkosi can judge.
    text = f"[Match]\nImageId=host\n[{section}]\n{setting}\n"
    (folder / "mkosi.conf.d/20-own.conf").write_text(text)
    with pytest.raises(DocumentError) as caught:
        packages(folder, tools)
    (problem,) = caught.value.problems
    assert problem.path == f"mkosi.conf.d/20-own.conf: {setting.partition('=')[0]}"
    assert key in problem.message


def test_a_condition_that_does_not_hold_is_no_error(tools: ToolsTree, folder: Path) -> None:
    (folder / "mkosi.conf").write_text("[Match]\nImageId=another\n[Content]\nTimezone=Europe/Berlin\n")
    assert packages(folder, tools)


def test_files_that_mkosi_reads_as_settings_are_refused_by_the_setting(tools: ToolsTree, folder: Path) -> None:
    (folder / "mkosi.version").write_text("7\n")
    (folder / "mkosi.rootpw").write_text("x\n")
    (folder / "mkosi.rootpw").chmod(0o600)
    with pytest.raises(DocumentError) as caught:
        packages(folder, tools)
    assert [problem.path for problem in caught.value.problems] == ["mkosi.*: ImageVersion", "mkosi.*: RootPassword"]
