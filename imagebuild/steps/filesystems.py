"""The file systems of an image: the package tree, the root filesystem with its verity tree.

Rules: mkosi and systemd-repart work from the configuration next to the build; cached results are found by the hash of
their inputs.  Not here: the initrd (`initrd/`).
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

from bedrock.errors import ProcessError
from imagebuild.definition import config
from imagebuild.definition.baked import baked
from imagebuild.definition.image import definition_files
from imagebuild.definition.storage import STORAGE_FILE, baked_storage
from imagebuild.errors import BuildError, SpaceError
from imagebuild.paths import DATA, EPOCH
from imagebuild.steps.access import write_access, write_policy
from imagebuild.steps.checkout import copy_file, copy_files
from imagebuild.steps.hardening import stripped_programs, write_hardening
from imagebuild.steps.initrd.firmware import microcode_files
from imagebuild.steps.leave_out.rules import load_rules
from imagebuild.steps.products import Kernel, PackageTree, RootImage
from imagebuild.steps.scratch import keep_tree, restore_tree
from imagebuild.steps.workshop import Workshop
from updater.documents.release import ArtifactKind
from updater.etc_policy import POLICY_FILE as ETC_POLICY_FILE
from updater.provision.policy import POLICY_FILE

_MKOSI_TIMEOUT_S = 1800
_REPART_TIMEOUT_S = 600
_SEEDS = uuid.UUID("6d0f2f0c-36a4-4c2c-9d5b-6d4f0b1d9a71")


def stage_definition(folder: Path, target: Path) -> None:
    """Copy a definition's files into the new folder `target`, without times, which depend on the checkout."""
    target.mkdir()
    for name in definition_files(folder):
        copy_file(folder / name, target / name)
    for path in (target, *target.rglob("*")):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


def write_extra_files(shop: Workshop, tree: Path, data: Path = DATA) -> None:
    """Write the files of the definition and of Twinhull (from its `data`) into the tree at `tree`."""
    plan, definition = shop.plan, shop.plan.definition
    copy_files(data / "tree", tree)
    write_hardening(definition.hardening, tree, data)
    write_access(definition, plan.profile, tree, data)
    write_policy(definition, shop.definition, tree)
    _put(tree, config.UPDATER_FILE, config.baked_updater(definition))
    _put(tree, POLICY_FILE, definition.provision.baked(shop.definition))
    _put(tree, STORAGE_FILE, baked_storage(definition.var, definition.reset))
    _put(tree, ETC_POLICY_FILE, definition.etc_policy.text().encode())
    _put(tree, config.ROOT_OF_TRUST_FILE, plan.root_of_trust.read_bytes())
    for file in definition.files:
        content = (shop.definition / file.source).read_bytes() if file.source else (file.content or "").encode()
        _put(tree, file.path.in_image, content, mode=int(file.mode, 8))
    for unit in definition.units:
        _put(tree, unit.path, unit.content.encode())
    made = baked(definition)
    for path, text in made.files.items():
        _put(tree, path, text.encode())
    for path, target in made.links.items():
        link = tree / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def make_tree(shop: Workshop) -> PackageTree:
    """Let mkosi install and arrange the root filesystem's files in the working folder.

    Raises:
        BuildError: mkosi left no kernel.
        ProcessError: It failed.
    """
    plan = shop.plan
    folder = shop.config / "tree"
    folder.mkdir(parents=True)
    text = config.tree_config(
        plan.definition,
        version=plan.version,
        folders=shop.folders,
        extra=shop.extra,
        base=(DATA / "image.conf").read_text(),
        scripts=shop.config / "scripts",
        merged=shop.definition if any(shop.definition.glob("mkosi.*")) else None,
        profile=plan.profile,
        epoch=EPOCH,
        local=plan.supply.packages.local,
        needed_modules=load_rules().modules_of({package.name for package in plan.supply.packages.packages}),
    )
    (folder / "mkosi.conf").write_text(text)
    _mkosi(shop, folder)
    output = shop.folders.output
    file, version = output / "vmlinuz", output / "kernel-version"
    for path in (file, version):
        if not path.is_file():
            raise BuildError(f"mkosi left no {path.name}: does the image hold a kernel?")
    kernel = Kernel(version.read_text().strip(), file)
    return PackageTree(
        output / "tree",
        output / "dpkg",
        kernel,
        stripped=stripped_programs(output),
        microcode=microcode_files(output / "microcode"),
    )


def make_root(shop: Workshop, tree: PackageTree) -> RootImage:
    """Let systemd-repart make the root filesystem, its verity tree and the root hash from the package tree.

    Raises:
        BuildError: systemd-repart named no root hash.
        SpaceError: A file is larger than its slot.
        ProcessError: It failed.
    """
    definitions = shop.config / "root"
    write_definitions(definitions, config.root_partitions())
    image = shop.work / "root.raw"
    done = shop.tools.run(
        [
            "systemd-repart",
            "--empty=create",
            "--size=auto",
            "--dry-run=no",
            "--offline=yes",
            "--split=yes",
            "--json=short",
            f"--seed={seed_of(shop.plan.definition.id)}",
            f"--root={tree.root}",
            f"--definitions={definitions}",
            f"--architecture={shop.plan.definition.architecture.value}",
            image,
        ],
        shop.access,
        timeout_s=_REPART_TIMEOUT_S,
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )
    with shop.log.open("a") as log:
        log.write(done.stderr)
    root_hash = next((row["roothash"] for row in json.loads(done.stdout) if row.get("roothash")), None)
    if not isinstance(root_hash, str):
        raise BuildError("systemd-repart named no root hash")
    made = RootImage(root_hash, shop.artifact(ArtifactKind.ROOT), shop.artifact(ArtifactKind.VERITY))
    for name, target in (("root.root.raw", made.root), ("root.verity.raw", made.verity)):
        (shop.work / name).rename(target)
    image.unlink()
    slots = shop.plan.definition.slots
    for path, room in ((made.root, slots.root), (made.verity, slots.verity)):
        size = path.stat().st_size
        if size > room:
            raise SpaceError(f"{path.name} has {size >> 20} MiB, its slot only {room >> 20} MiB").with_hint(
                "raise slots.root in image.yaml; hosts that were installed with smaller slots cannot take this image"
            )
    return made


def seed_of(image: str) -> uuid.UUID:
    """The seed of systemd-repart's identifiers and of the verity salt: constant per image.

    So equal blocks in two releases of an image have equal hashes, and the trees of two images have nothing in common.
    """
    return uuid.uuid5(_SEEDS, image)


def keep_installed(shop: Workshop) -> None:
    """Keep the tree of installed packages for later builds."""
    keep_tree(shop.kept_tree, shop.folders.cache, shop.tools)


def _mkosi(shop: Workshop, folder: Path) -> None:
    folders = shop.folders
    for made in (folders.cache, folders.packages):
        made.mkdir(parents=True, exist_ok=True)
    restore_tree(shop.kept_tree, folders.cache, shop.tools)
    found = _manifests(folders.cache)
    words = ("mkosi", "--directory", folder, "--force", "build")
    try:
        shop.tools.run(words, shop.access, timeout_s=_MKOSI_TIMEOUT_S, cwd=folder, log=shop.log)
    except ProcessError as error:
        # With an exit code mkosi ended by itself; the next build can start from its tree after an error in a script.
        if error.returncode is not None and error.returncode > 0 and _manifests(folders.cache):
            _forget_other(shop, found, _manifests(folders.cache))
            keep_installed(shop)
        raise
    _forget_other(shop, found, _manifests(folders.cache))


def _manifests(folder: Path) -> dict[str, bytes]:
    """The inputs of the cached trees as mkosi records them; it writes this last, so such a tree is complete."""
    return {path.name: path.read_bytes() for path in folder.glob("*.manifest")}


def _forget_other(shop: Workshop, found: dict[str, bytes], made: dict[str, bytes]) -> None:
    """Remove the cached tree when mkosi did not use it: another definition requested the same packages differently."""
    if found != made:
        shop.kept_tree.unlink(missing_ok=True)


def write_definitions(folder: Path, definitions: dict[str, str]) -> None:
    """Write systemd-repart definitions into a new folder."""
    folder.mkdir(parents=True)
    for name, text in definitions.items():
        (folder / name).write_text(text)


def _put(tree: Path, path: str, content: bytes, *, mode: int = 0o644) -> None:
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode)
