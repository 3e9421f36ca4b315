from __future__ import annotations

from pathlib import Path

import pytest

from bedrock import strict
from imagebuild.vm.accelerator import AcceleratorChoice, CachedFinding, read_cache, reason_of
from imagebuild.vm.config import Accelerator


def test_a_fallback_says_why_in_one_line() -> None:
    finding = AcceleratorChoice(Accelerator.TCG, "/dev/kvm does not exist")
    assert finding.line == "no usable hardware acceleration (/dev/kvm does not exist): software emulation"


def test_a_finding_with_the_same_qemu_and_kernel_is_reused(tmp_path: Path) -> None:
    path = tmp_path / "accelerator.json"
    path.write_bytes(strict.dump_json(CachedFinding("q 10", "6.12", Accelerator.KVM, "")))
    assert read_cache(path, qemu="q 10", kernel="6.12") == AcceleratorChoice(Accelerator.KVM)


@pytest.mark.parametrize(("qemu", "kernel"), [("q 11", "6.12"), ("q 10", "6.13")])
def test_a_finding_of_another_qemu_or_kernel_is_not_reused(tmp_path: Path, qemu: str, kernel: str) -> None:
    path = tmp_path / "accelerator.json"
    path.write_bytes(strict.dump_json(CachedFinding("q 10", "6.12", Accelerator.KVM, "")))
    assert read_cache(path, qemu=qemu, kernel=kernel) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"accelerator": "xen"}'])
def test_an_unreadable_finding_is_made_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "accelerator.json"
    path.write_text(text)
    assert read_cache(path, qemu="q", kernel="k") is None


def test_qemus_reason_is_one_clause() -> None:
    said = "qemu-system-x86_64: error: failed to set MSR 0x10a\nqemu-system-x86_64: Assertion\n"
    assert reason_of(said) == "failed to set MSR 0x10a"
    assert reason_of("") == "the firmware did not start"
