from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from bedrock.process import Finished
from imagebuild.errors import BuildError, SpaceError
from imagebuild.inputs.archive import index_path
from imagebuild.inputs.tools import ToolsTree
from imagebuild.steps import filesystems
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.products import Kernel, PackageTree, RootImage
from imagebuild.steps.workshop import Workshop
from tests.fakes.definitions import plan_in
from tests.fakes.played_tools import Call, PlayedTools

ROOT_HASH = "cd" * 32


@dataclass(frozen=True)
class TreeTools(PlayedTools):
    """Tools that only leave behind what the real ones would; `mkosi_fails` with this, after `mkosi` did its work."""

    root_bytes: int = 8192
    rows: tuple[dict[str, str], ...] = ({"type": "root", "roothash": ROOT_HASH},)
    mkosi_fails: BaseException | None = None
    leaves: tuple[str, ...] = ("vmlinuz", "kernel-version")
    installs: tuple[str, ...] = ()
    made_from: str = ""

    def play(self, call: Call) -> Finished:
        words = call.words
        work = call.access.write[0]
        if words[0] == "mkosi":
            scratch = call.access.write[1]
            for name in self.installs:
                (scratch / "cache" / name).write_text(self.made_from)
            if self.mkosi_fails is not None:
                raise self.mkosi_fails
            for name in self.leaves:
                (scratch / "output" / name).write_text("6.12\n")
            (scratch / "output/stripped").write_text("4755 /usr/bin/su\n")
        elif words[0] == "tar":
            (file,) = (Path(word.removeprefix("--file=")) for word in words if word.startswith("--file="))
            (folder,) = (Path(word.removeprefix("--directory=")) for word in words if word.startswith("--directory="))
            if "--create" in words:
                file.write_text("\n".join(path.name for path in folder.iterdir()))
            else:
                if file.read_text() == "damaged":
                    raise ProcessError("tar failed", returncode=2)
                for name in file.read_text().splitlines():
                    (folder / name).touch()
        else:
            (work / "root.raw").touch()
            (work / "root.root.raw").write_bytes(bytes(self.root_bytes))
            (work / "root.verity.raw").write_bytes(bytes(4096))
        return call.end(json.dumps(self.rows), "what repart said\n")


def shop_in(folder: Path, tools: ToolsTree, text: str = "id: host\n") -> Workshop:
    plan = plan_in(folder, text)
    shop = Workshop(replace(plan, supply=replace(plan.supply, tools=tools)), folder / "work", folder / "scratch")
    for made in (shop.out, shop.folders.output):
        made.mkdir(parents=True, exist_ok=True)
    (shop.folders.output / "tree/usr/lib/modules").mkdir(parents=True)
    with_archive(shop)
    return shop


def tree_of(shop: Workshop) -> PackageTree:
    output = shop.folders.output
    return PackageTree(output / "tree", output / "dpkg", Kernel("6.12", output / "vmlinuz"), ("/usr/bin/su",))


def with_archive(shop: Workshop, text: str = "Package: podman\n") -> None:
    index = index_path(shop.folders.archive, "trixie")
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(text)


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
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc"), text)
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
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc"))
    assert filesystems.make_tree(shop) == tree_of(shop)
    assert "[Include]" not in (shop.config / "tree/mkosi.conf").read_text()
    other = shop_in(tmp_path / "b", TreeTools(tmp_path / "tools/abc"))
    (other.plan.folder / "mkosi.extra").mkdir()
    (other.plan.folder / "mkosi.extra/file").touch()
    filesystems.stage_definition(other.plan.folder, other.definition)
    filesystems.make_tree(other)
    assert f"Include={other.definition}" in (other.config / "tree/mkosi.conf").read_text()


def test_the_root_hash_and_both_files_come_out_of_repart(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc"))
    made = filesystems.make_root(shop, tree_of(shop))
    assert made == RootImage(ROOT_HASH, shop.out / "root.erofs", shop.out / "root.verity")
    assert sorted(path.name for path in shop.out.glob("root.*")) == ["root.erofs", "root.verity"]
    assert shop.log.read_text() == "what repart said\n"


def test_a_root_that_outgrows_its_slot_is_refused(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc", root_bytes=65 << 20), "id: host\nslots: {root: 64M}\n")
    with pytest.raises(SpaceError, match=r"root\.erofs has 65 MiB, its slot only 64 MiB") as caught:
        filesystems.make_root(shop, tree_of(shop))
    assert "slots.root" in caught.value.hints[0]


def test_no_root_hash_is_an_error(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc", rows=()))
    with pytest.raises(BuildError, match="no root hash"):
        filesystems.make_root(shop, tree_of(shop))


@pytest.mark.parametrize("missing", ["vmlinuz", "kernel-version"])
def test_a_tree_without_a_kernel_is_an_error(tmp_path: Path, missing: str) -> None:
    leaves = tuple(name for name in ("vmlinuz", "kernel-version") if name != missing)
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc", leaves=leaves))
    with pytest.raises(BuildError, match=f"mkosi left no {missing}"):
        filesystems.make_tree(shop)


def installed(tmp_path: Path, name: str, shop: Workshop) -> list[str]:
    """What mkosi finds of packages that were installed before, in another build with the same cache."""
    again = shop_in(tmp_path / name, TreeTools(tmp_path / "tools/abc"))
    again = replace(again, plan=with_cache(again.plan, shop.plan.cache))
    with_archive(again)
    filesystems.make_tree(again)
    return sorted(path.name for path in again.folders.cache.iterdir())


def test_installed_packages_are_kept_for_the_next_build(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc", installs=("a.cache", "a.manifest")))
    filesystems.make_tree(shop)
    assert not shop.kept_tree.exists()
    filesystems.keep_installed(shop)
    assert installed(tmp_path, "again", shop) == ["a.cache", "a.manifest"]


@pytest.mark.parametrize(("made_from", "packed"), [("", 0), ("other words for the same packages", 1)])
def test_a_kept_tree_that_mkosi_had_no_use_for_is_replaced(tmp_path: Path, *, made_from: str, packed: int) -> None:
    tools = TreeTools(tmp_path / "tools/abc", installs=("a.manifest",), made_from=made_from)
    shop = shop_in(tmp_path, tools)
    shop.kept_tree.parent.mkdir(parents=True)
    shop.kept_tree.write_text("a.manifest")
    filesystems.make_tree(shop)
    filesystems.keep_installed(shop)
    assert sum("--create" in words for words in tools.ran) == packed
    assert shop.kept_tree.exists()


def test_a_kept_tree_that_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc"))
    shop.kept_tree.parent.mkdir(parents=True)
    shop.kept_tree.write_text("damaged")
    assert installed(tmp_path, "again", shop) == []
    assert not shop.kept_tree.exists()


@pytest.mark.parametrize(
    ("end", "installs", "kept"),
    [
        (KeyboardInterrupt(), ("a.cache", "a.manifest"), False),
        (ProcessError("killed", returncode=-9), ("a.cache", "a.manifest"), False),
        (ProcessError("too long"), ("a.cache", "a.manifest"), False),
        (ProcessError("failed", returncode=1), ("a.cache",), False),
        (ProcessError("failed", returncode=1), ("a.cache", "a.manifest"), True),
    ],
)
def test_a_failed_mkosi_leaves_its_packages_only_when_they_are_whole(
    tmp_path: Path, *, end: BaseException, installs: tuple[str, ...], kept: bool
) -> None:
    shop = shop_in(tmp_path, TreeTools(tmp_path / "tools/abc", mkosi_fails=end, installs=installs))
    with pytest.raises(type(end)):
        filesystems.make_tree(shop)
    assert shop.kept_tree.exists() == kept
