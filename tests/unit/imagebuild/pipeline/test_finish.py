"""A build whose key is elsewhere: unsigned first, and the same bytes in the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bedrock.errors import DocumentError
from imagebuild.cli import twinhull
from imagebuild.errors import BuildError, VmError
from imagebuild.inputs.tools import ToolsTree
from imagebuild.pipeline.finish import finish_build
from imagebuild.steps.disk import DiskRecipe, DiskWorkplace, assemble
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.products import BootPrograms, DiskImages
from imagebuild.steps.signing import KeySource
from keys.ceremony.request import PayloadKind, request_bytes
from keys.ceremony.signing import by_keyring, explain, read_request, signed_with
from keys.errors import MissingKeyError, RequestMismatchError, UnrequestedKeyError
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.secureboot.pe import authenticode_digest, signatures_of
from keys.secureboot.requests import boot_words
from tests.fakes.keyrings import dev_folder
from tests.fakes.signed_builds import DiskTools, build_signed, build_unsigned, plan_with_tools
from tests.fakes.ukis import unsigned_uki

# What describes one run, and not the build.
RUN = {"summary.json", "build.log"}


@pytest.fixture
def plan(tmp_path: Path) -> BuildPlan:
    return plan_with_tools(tmp_path)


@pytest.fixture
def unsigned(plan: BuildPlan, tmp_path: Path) -> Path:
    return build_unsigned(plan, tmp_path / "out/host/unsigned").out


def played(recipe: DiskRecipe, boot: BootPrograms, slot: tuple[Path, ...], place: DiskWorkplace) -> DiskImages:
    """`assemble` with the played tools in place of those in the cache."""
    assert isinstance(place.tools, ToolsTree)
    tools = DiskTools(place.tools.root)
    return assemble(
        recipe, boot, slot, DiskWorkplace(tools, place.config, place.source, place.out, place.access, place.log)
    )


def sign(request: Path, plan: BuildPlan) -> None:
    """As `twinhull sign` does where the key is."""
    assert isinstance(plan.signatures, KeySource)
    asked = read_request(request)
    assert explain(asked, {PayloadKind.SECURE_BOOT: boot_words})
    request.write_bytes(request_bytes(signed_with(asked, by_keyring(asked, plan.signatures.keyring, NoPassphrase()))))


def files_of(build: Path) -> dict[str, bytes]:
    paths = (path for path in build.rglob("*") if path.is_file() and path.name not in RUN)
    return {str(path.relative_to(build)): path.read_bytes() for path in paths}


def test_a_finished_build_has_the_bytes_of_one_that_was_signed_at_once(plan: BuildPlan, unsigned: Path) -> None:
    signed = build_signed(plan).out
    assert files_of(unsigned) != files_of(signed)
    sign(unsigned / "signing-request.json", plan)
    done = finish_build(unsigned, cache=plan.cache, assemble_disk=played)
    assert done.fresh
    assert files_of(unsigned) == files_of(signed)
    assert not any("UNSIGNED" in note for note in done.summary.notes)
    assert not finish_build(unsigned, cache=plan.cache, assemble_disk=played).fresh


def test_a_build_without_both_keys_is_signed_for_tpms_first(plan: BuildPlan, tmp_path: Path) -> None:
    signed = build_signed(plan).out
    unsigned = build_unsigned(plan, tmp_path / "out/host/neither", without=("db", "pcr")).out
    request = unsigned / "signing-request.json"
    assert [entry.keys[0].label for entry in read_request(request).entries] == ["pcr"] * 3
    sign(request, plan)
    first = request.read_bytes()
    done = finish_build(unsigned, cache=plan.cache, assemble_disk=played)
    assert done.next_request == request
    assert [entry.name for entry in read_request(request).entries] == ["uki.efi", "loader.efi"]
    # As after a crash before the next request was written.
    request.write_bytes(first)
    assert finish_build(unsigned, cache=plan.cache, assemble_disk=played).next_request == request
    sign(request, plan)
    assert finish_build(unsigned, cache=plan.cache, assemble_disk=played).next_request is None
    assert files_of(unsigned) == files_of(signed)


def test_only_the_key_for_measured_boots_missing_ends_in_the_same_bytes(plan: BuildPlan, tmp_path: Path) -> None:
    signed = build_signed(plan).out
    unsigned = build_unsigned(plan, tmp_path / "out/host/measured", without=("pcr",)).out
    for _ in range(2):
        sign(unsigned / "signing-request.json", plan)
        finish_build(unsigned, cache=plan.cache, assemble_disk=played)
    assert files_of(unsigned) == files_of(signed)


def test_signatures_for_the_measured_boot_of_another_build_are_refused(plan: BuildPlan, tmp_path: Path) -> None:
    unsigned = build_unsigned(plan, tmp_path / "out/host/neither", without=("db", "pcr")).out
    request, uki = unsigned / "signing-request.json", unsigned / "unsigned/uki.efi"
    sign(request, plan)
    uki.write_bytes(unsigned_uki(plan, b"another kernel"))
    before = files_of(unsigned)
    with pytest.raises(RequestMismatchError, match=r"was not made for this uki\.efi measured at its start"):
        finish_build(unsigned, cache=plan.cache, assemble_disk=played)
    assert files_of(unsigned) == before


def test_twinhull_sign_shows_the_digest_and_signs(plan: BuildPlan, unsigned: Path) -> None:
    assert isinstance(plan.signatures, KeySource)
    request, key = unsigned / "signing-request.json", plan.signatures.keyring.folder / "db.pem"
    result = CliRunner().invoke(twinhull, ["sign", str(request), "--key", f"file:{key}", "--yes"])
    assert result.exit_code == 0, result.output
    assert authenticode_digest(unsigned / "uki.efi").hex() in result.output
    assert read_request(request).complete


def test_an_unsigned_build_says_so_and_carries_its_request(unsigned: Path) -> None:
    summary = json.loads((unsigned / "summary.json").read_text())
    assert any("UNSIGNED" in note and "twinhull finish" in note for note in summary["notes"])
    request = read_request(unsigned / "signing-request.json")
    assert [entry.name for entry in request.entries] == ["uki.efi", "loader.efi"]
    assert not request.complete
    assert signatures_of(unsigned / "uki.efi") == ()
    digest = authenticode_digest(unsigned / "uki.efi").hex()
    assert any(digest in line for line in boot_words(request.entries[0]))
    assert not (unsigned / "signatures.json").exists()


def test_without_signatures_nothing_is_changed(plan: BuildPlan, unsigned: Path) -> None:
    before = files_of(unsigned)
    with pytest.raises(UnrequestedKeyError, match=r"uki\.efi: the signature of db is missing"):
        finish_build(unsigned, cache=plan.cache, assemble_disk=played)
    assert files_of(unsigned) == before


def test_a_request_of_another_build_is_refused(plan: BuildPlan, unsigned: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    shutil.copy(unsigned / "signing-request.json", other)
    sign(other, plan)
    (unsigned / "unsigned/uki.efi").write_bytes((unsigned / "unsigned/loader.efi").read_bytes())
    with pytest.raises(RequestMismatchError, match=r"was not made for this uki\.efi"):
        finish_build(unsigned, other, cache=plan.cache, assemble_disk=played)


def test_a_signature_by_another_key_is_refused(plan: BuildPlan, unsigned: Path, tmp_path: Path) -> None:
    sign(unsigned / "signing-request.json", plan)
    (tmp_path / "other").mkdir()
    stranger = Keyring.load(dev_folder(tmp_path / "other"))
    shutil.copy(stranger.folder / "KEK.crt", unsigned / "certificates/db.pem")
    with pytest.raises(RequestMismatchError, match="does not ask for a signature of"):
        finish_build(unsigned, cache=plan.cache, assemble_disk=played)


def test_a_damaged_signature_is_refused(plan: BuildPlan, unsigned: Path) -> None:
    path = unsigned / "signing-request.json"
    sign(path, plan)
    text = path.read_text()
    made = json.loads(text)["entries"][0]["signatures"][0]["signature"]
    path.write_text(text.replace(made, made[:-2] + ("00" if made[-2:] != "00" else "01")))
    with pytest.raises(DocumentError, match="does not hold"):
        finish_build(unsigned, cache=plan.cache, assemble_disk=played)


@pytest.mark.parametrize("cut", ["signatures.json", "release.json"])
def test_an_interrupted_finish_is_run_again(
    cut: str, plan: BuildPlan, unsigned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = build_signed(plan).out
    sign(unsigned / "signing-request.json", plan)
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if self.name == cut:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        with pytest.raises(OSError, match="No space left"):
            finish_build(unsigned, cache=plan.cache, assemble_disk=played)
    assert (unsigned / "signing-request.json").is_file()
    assert finish_build(unsigned, cache=plan.cache, assemble_disk=played).fresh
    assert files_of(unsigned) == files_of(signed)


def test_without_the_tools_that_built_it_nothing_is_finished(plan: BuildPlan, unsigned: Path) -> None:
    sign(unsigned / "signing-request.json", plan)
    (plan.cache / "tools/abc/.complete").unlink()
    with pytest.raises(BuildError, match="the tools that made this build are not here"):
        finish_build(unsigned, cache=plan.cache, assemble_disk=played)


def test_a_folder_that_is_no_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is not the output of a build"):
        finish_build(tmp_path, cache=tmp_path)


def test_a_key_that_must_be_here_is_still_missed(plan: BuildPlan, tmp_path: Path) -> None:
    assert isinstance(plan.signatures, KeySource)
    (plan.signatures.keyring.folder / "db.pem").unlink()
    with pytest.raises(MissingKeyError, match=r"db\.pem"):
        build_signed(plan)


def test_a_machine_with_secure_boot_is_not_started_from_an_unsigned_build(unsigned: Path) -> None:
    result = CliRunner().invoke(twinhull, ["vm", "run", str(unsigned)])
    assert isinstance(result.exception, VmError)
    assert "is unsigned" in str(result.exception)
    assert any("twinhull finish" in hint for hint in result.exception.hints)
