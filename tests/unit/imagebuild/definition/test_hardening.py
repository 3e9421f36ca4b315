from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition import config
from imagebuild.definition.hardening import Hardening
from imagebuild.definition.image import ImageDefinition
from tests.fakes.definitions import definition_of

ROOT_HASH = "0123456789abcdef" * 4


ARGUMENTS = {
    "lockdown": "lockdown=integrity module.sig_enforce=1",
    "slab_nomerge": "slab_nomerge",
    "init_on_free": "init_on_free=1",
    "page_shuffle": "page_alloc.shuffle=1",
    "mounted_disks": "bdev_allow_write_mounted=0",
    "debugfs": "debugfs=off",
    "sealed_arguments": "--",
}


def arguments_of(hardening: Hardening, *more: str) -> list[str]:
    definition = ImageDefinition(id="host", hardening=hardening, kernel_arguments=more)
    return config.kernel_arguments(definition, ROOT_HASH).split()


def test_everything_is_hardened_by_default(tmp_path: Path) -> None:
    hardening = definition_of(tmp_path, "id: host\n").hardening
    assert hardening == Hardening()
    assert all(getattr(hardening, name) for name in ("sysctl", "mounts", "apparmor", *ARGUMENTS))
    assert hardening.packages == ("linux-sysctl-defaults", "apparmor")
    assert set(ARGUMENTS.values()) <= {" ".join(pair) for pair in pairwise(arguments_of(hardening))} | set(
        arguments_of(hardening)
    )
    assert arguments_of(hardening)[-1] == "--"


def test_each_part_can_be_switched_off() -> None:
    assert Hardening(sysctl=False).packages == ("apparmor",)
    assert Hardening(apparmor=False).packages == ("linux-sysctl-defaults",)
    assert "twinhull.mounts=plain" in arguments_of(Hardening(mounts=False))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_each_argument_can_be_switched_off_and_nothing_else_goes_with_it(name: str) -> None:
    switches: dict[str, Any] = {name: False}
    before, after = arguments_of(Hardening()), arguments_of(Hardening(**switches))
    assert after == [word for word in before if word not in ARGUMENTS[name].split()]


def test_a_setuid_program_takes_a_root_that_honours_it() -> None:
    assert "twinhull.mounts=setuid" in arguments_of(Hardening(setuid=("/usr/bin/sudo",)))
    assert "twinhull.mounts=plain" in arguments_of(Hardening(setuid=("/usr/bin/sudo",), mounts=False))
    assert not [word for word in arguments_of(Hardening()) if word.startswith("twinhull.")]


def test_the_definitions_own_arguments_come_last() -> None:
    assert arguments_of(Hardening(), "quux")[-2:] == ["quux", "--"]


def test_an_argument_that_would_loosen_the_mounts_is_not_the_definitions_to_give(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="the build sets it"):
        definition_of(tmp_path, "id: host\nkernel_arguments: [twinhull.mounts=plain]\n")


@pytest.mark.parametrize("path", ["sudo", "/sudo/", "/usr/bin/a b", "/usr/../bin/sudo", "/usr/bin/a:b"])
def test_what_is_no_path_of_a_program_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DocumentError, match="absolute path of a program"):
        definition_of(tmp_path, f"id: host\nhardening: {{setuid: ['{path}']}}\n")
