"""Writes the files of ssh, the rescue entry, the debug profile and the container policy into an image."""

from __future__ import annotations

from pathlib import Path

from imagebuild.definition.containers import POLICY_FILE, REGISTRIES_FILE
from imagebuild.definition.image import BuildProfile, ImageDefinition
from imagebuild.paths import DATA
from imagebuild.steps.checkout import copy_files


def write_access(definition: ImageDefinition, profile: BuildProfile | None, tree: Path, data: Path = DATA) -> None:
    """Copy the files of each way in that the definition opens from `data` into the tree at `tree`."""
    wanted = {"ssh": bool(definition.ssh.keys), "rescue": definition.rescue, "debug": profile is BuildProfile.DEBUG}
    for name, on in wanted.items():
        if on:
            copy_files(data / "access" / name, tree)
    if definition.ssh.keys:
        _put(tree, definition.ssh.keys_path, "".join(f"{key}\n" for key in definition.ssh.keys).encode())


def write_policy(definition: ImageDefinition, folder: Path, tree: Path) -> None:
    """Write podman's policy and the keys it names; they are files of the definition in `folder`."""
    policy = definition.containers.policy
    if policy is None:
        return
    _put(tree, POLICY_FILE, policy.policy_json())
    _put(tree, REGISTRIES_FILE, policy.registries_yaml())
    for each in policy.signed:
        _put(tree, each.key_path, (folder / each.key).read_bytes())


def _put(tree: Path, path: str, content: bytes) -> None:
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(0o644)
