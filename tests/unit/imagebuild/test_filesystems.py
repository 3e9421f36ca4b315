from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from bedrock.process import Argument, Finished
from imagebuild import filesystems
from imagebuild.errors import BuildError, SpaceError
from imagebuild.inputs.archive import index_path
from imagebuild.plan import BuildPlan
from imagebuild.tools import Access, ToolsTree
from imagebuild.workshop import Workshop
from tests.fakes.definitions import package, plan_in, selection_of

ROOT_HASH = "cd" * 32
NOTHING = Access()


@dataclass(frozen=True)
class PlayedTools(ToolsTree):
    """Tools that only leave behind what the real ones would; `mkosi_fails` with this, after `mkosi` did its work."""

    root_bytes: int = 8192
    rows: tuple[dict[str, str], ...] = ({"type": "root", "roothash": ROOT_HASH},)
    mkosi_fails: BaseException | None = None
    base_fails: BaseException | None = None
    ran: list[list[str]] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[Argument],
        access: Access = NOTHING,
        *,
        timeout_s: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        check: bool = True,
    ) -> Finished:
        words = [str(word) for word in argv]
        self.ran.append(words)
        work = access.write[0]
        if words[0] == "mkosi":
            if self.mkosi_fails is not None:
                raise self.mkosi_fails
            if self.base_fails is not None and "--format=none" in words:
                raise self.base_fails
            (work / "mkosi/vmlinuz").touch()
            (work / "mkosi/kernel-version").write_text("6.12\n")
            (work / "mkosi/initrd.cpio.zst").write_bytes(b"initrd")
            (work / "mkosi/initrd-dpkg").mkdir(exist_ok=True)
            (work / "mkosi/initrd-dpkg/status").write_text("what dpkg knew\n")
        else:
            (work / "root.raw").touch()
            (work / "root.root.raw").write_bytes(bytes(self.root_bytes))
            (work / "root.verity.raw").write_bytes(bytes(4096))
        return Finished(tuple(words), 0, json.dumps(self.rows), "what repart said\n")


def shop_in(folder: Path, tools: ToolsTree, text: str = "id: host\n") -> Workshop:
    plan = plan_in(folder, text)
    shop = Workshop(replace(plan, supply=replace(plan.supply, tools=tools)), folder / "work")
    for made in (shop.out, shop.folders.output, shop.folders.cache / "tree"):
        made.mkdir(parents=True, exist_ok=True)
    (shop.folders.output / "tree/usr/lib/modules").mkdir(parents=True)
    with_archive(shop)
    return shop


def with_archive(shop: Workshop, text: str = "Package: podman\n") -> None:
    index = index_path(shop.folders.archive, "trixie")
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(text)


def shop_again(shop: Workshop) -> Workshop:
    shutil.rmtree(shop.config)
    return shop


def with_cache(plan: BuildPlan, cache: Path) -> BuildPlan:
    return replace(plan, supply=replace(plan.supply, cache=cache))


def test_the_files_of_every_image_are_written_with_their_modes(tmp_path: Path) -> None:
    text = """
id: host
files:
- {path: /etc/motd, content: hello}
- {path: /usr/bin/tool, source: tool.sh, mode: "0755"}
units:
- {name: web.container, content: "[Container]"}
- {name: a.service, content: "[Service]"}
"""
    (tmp_path / "definition").mkdir()
    (tmp_path / "definition/tool.sh").write_text("#!/bin/sh\n")
    shop = shop_in(tmp_path, PlayedTools(tmp_path / "tools/abc"), text)
    filesystems.stage_definition(shop.plan.folder, shop.definition)
    tree = tmp_path / "tree"
    filesystems.write_extra_files(shop, tree)
    assert (tree / "etc/motd").read_text() == "hello"
    assert (tree / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tree / "usr/share/containers/systemd/web.container").read_text() == "[Container]"
    assert (tree / "usr/lib/systemd/system-preset/10-image.preset").read_text() == "enable a.service\n"
    assert (tree / "usr/lib/twinhull/root.json").read_bytes() == shop.plan.root_of_trust.read_bytes()
    assert json.loads((tree / "usr/lib/twinhull/updater.yaml").read_bytes())["tries"] == 3


def test_a_staged_definition_has_nothing_of_who_checked_it_out(tmp_path: Path) -> None:
    for name, mode in (("mine", 0o077), ("theirs", 0o002)):
        folder = tmp_path / name
        (folder / "mkosi.extra").mkdir(parents=True)
        (folder / "mkosi.extra/tool").write_text("#!/bin/sh")
        (folder / "mkosi.extra/tool").chmod(0o777 & ~mode)
        (folder / "mkosi.extra/text").write_text("text")
        (folder / "mkosi.extra/text").chmod(0o666 & ~mode)
        (folder / "link").symlink_to("nowhere")
        (folder / "image.lock").touch()
        filesystems.stage_definition(folder, tmp_path / f"staged-{name}")
    seen = [
        {
            str(path.relative_to(tmp_path / name)): (path.lstat().st_mode, path.lstat().st_mtime)
            for path in (tmp_path / name).rglob("*")
        }
        for name in ("staged-mine", "staged-theirs")
    ]
    assert seen[0] == seen[1]
    assert set(seen[0]) == {"mkosi.extra", "mkosi.extra/tool", "mkosi.extra/text", "link"}
    assert seen[0]["mkosi.extra/tool"][0] & 0o777 == 0o755
    assert seen[0]["mkosi.extra/text"][0] & 0o777 == 0o644


def test_mkosi_is_told_of_the_definitions_own_files_only_when_there_are_any(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, PlayedTools(tmp_path / "tools/abc"))
    filesystems.make_tree(shop)
    assert "[Include]" not in (shop.config / "tree/mkosi.conf").read_text()
    other = shop_in(tmp_path / "b", PlayedTools(tmp_path / "tools/abc"))
    (other.plan.folder / "mkosi.extra").mkdir()
    (other.plan.folder / "mkosi.extra/file").touch()
    filesystems.stage_definition(other.plan.folder, other.definition)
    filesystems.make_tree(other)
    assert f"Include={other.definition}" in (other.config / "tree/mkosi.conf").read_text()


def test_an_equal_initrd_is_made_once(tmp_path: Path) -> None:
    tools = PlayedTools(tmp_path / "tools/abc")
    for name in ("first", "second"):
        shop = shop_in(tmp_path / name, tools)
        shop.plan = with_cache(shop.plan, tmp_path / "cache")
        with_archive(shop)
        (shop.folders.output / "vmlinuz").touch()
        (shop.folders.output / "kernel-version").write_text("6.12\n")
        filesystems.make_initrd(shop)
        assert (shop.work / "initrd.cpio.zst").read_bytes() == b"initrd"
        assert (shop.work / "initrd-dpkg/status").read_text() == "what dpkg knew\n"
    assert len(tools.ran) == 1


def test_an_initrd_is_kept_when_a_package_changes_that_it_cannot_hold(tmp_path: Path) -> None:
    tools = PlayedTools(tmp_path / "tools/abc")
    for version in ("1", "2"):
        shop = shop_in(tmp_path / version, tools)
        packages = selection_of(package("podman", version=version))
        supply = replace(shop.plan.supply, cache=tmp_path / "cache", packages=packages)
        shop.plan = replace(shop.plan, supply=supply)
        with_archive(shop)
        (shop.folders.output / "vmlinuz").touch()
        (shop.folders.output / "kernel-version").write_text("6.12\n")
        filesystems.make_initrd(shop)
    assert len(tools.ran) == 1


def test_the_initrds_packages_are_installed_beside_the_tree_and_only_once(tmp_path: Path) -> None:
    tools = PlayedTools(tmp_path / "tools/abc")
    shop = shop_in(tmp_path, tools)
    filesystems.make_tree_and_initrd_base(shop)
    assert sorted("--format=none" in words for words in tools.ran) == [False, True]
    assert not (shop.config / "initrd-base").exists()
    for state in (shop.plan.cache / "mkosi").iterdir():
        (state / "initrd/debian.cache").mkdir(parents=True)
    tools.ran.clear()
    filesystems.make_tree_and_initrd_base(shop_again(shop))
    assert ["--format=none" in words for words in tools.ran] == [False]


def test_a_failed_installation_of_the_initrds_packages_fails_the_step(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, PlayedTools(tmp_path / "tools/abc", base_fails=ProcessError("failed", returncode=1)))
    with pytest.raises(ProcessError, match="failed"):
        filesystems.make_tree_and_initrd_base(shop)


def test_the_root_hash_and_both_files_come_out_of_repart(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, PlayedTools(tmp_path / "tools/abc"))
    filesystems.make_root(shop)
    assert (shop.work / "root-hash").read_text() == ROOT_HASH
    assert sorted(path.name for path in shop.out.glob("root.*")) == ["root.erofs", "root.verity"]
    assert shop.log.read_text() == "what repart said\n"


def test_a_root_that_outgrows_its_slot_is_refused(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, PlayedTools(tmp_path / "tools/abc", root_bytes=65 << 20), "id: host\nslots: {root: 64M}\n")
    with pytest.raises(SpaceError, match=r"root\.erofs has 65 MiB, its slot only 64 MiB") as caught:
        filesystems.make_root(shop)
    assert "slots.root" in caught.value.hints[0]


def test_no_root_hash_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no root hash"):
        filesystems.make_root(shop_in(tmp_path, PlayedTools(tmp_path / "tools/abc", rows=())))


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        (KeyboardInterrupt(), False),
        (ProcessError("killed", returncode=-9), False),
        (ProcessError("too long"), False),
        (ProcessError("failed", returncode=1), True),
    ],
)
def test_cached_trees_are_only_trusted_when_mkosi_came_to_its_own_end(
    tmp_path: Path, *, end: BaseException, kept: bool
) -> None:
    shop = shop_in(tmp_path, PlayedTools(tmp_path / "tools/abc", mkosi_fails=end))
    cached = shop.folders.cache / "tree/debian.cache"
    cached.touch()
    with pytest.raises(type(end)):
        filesystems.make_tree(shop)
    assert cached.exists()
    again = shop_in(tmp_path / "again", PlayedTools(tmp_path / "tools/abc"))
    again.plan = with_cache(again.plan, shop.plan.cache)
    filesystems.make_tree(again)
    assert cached.exists() == kept
    assert not (shop.folders.cache / "tree.unfinished").exists()
