"""The boot trust of an image, among the targets of the role `targets`.

Rules: an update is added and none is taken away, for hosts installed later need it too; the document is written before
the metadata that names it.
"""

from __future__ import annotations

from dataclasses import replace

from tuf.api.metadata import TargetFile, Targets

from bedrock import strict
from updater.documents.boot_trust import (
    FORMAT,
    BootTrust,
    BootTrustUpdate,
    boot_trust_path,
    parse_boot_trust,
    parse_boot_trust_to_change,
)
from updater.documents.release import Architecture
from updater.errors import RefusedError
from updater.repository.layout import Layout
from updater.repository.role_documents import RepositoryState
from updater.repository.targets import read_target, write_target


def read_boot_trust(layout: Layout, state: RepositoryState, image: str, architecture: Architecture) -> BootTrust:
    """The boot trust of an image; one without updates if nothing was published.

    Raises:
        RepositoryError: Its file is missing.
        RefusedError: It is not what was signed.
        DocumentError: It has keys that are new to this program, or errors.
    """
    path = boot_trust_path(image, architecture)
    target = state.targets.signed.targets.get(path)
    if target is None:
        return BootTrust(FORMAT, image, architecture, ())
    return parse_boot_trust_to_change(read_target(layout, target), source=path)


def with_update(layout: Layout, state: RepositoryState, trust: BootTrust, update: BootTrustUpdate) -> Targets:
    """The content of the role `targets` with one more update; writes the document to the disk.

    Raises:
        DocumentError: There are too many updates.
    """
    grown = strict.dump_json(replace(trust, updates=(*trust.updates, update)))
    parse_boot_trust_to_change(grown, source=trust.target_path)
    changed = state.targets.copy()
    changed.targets[trust.target_path] = write_target(layout, trust.target_path, grown)
    return changed


def check_boot_trust(layout: Layout, path: str, target: TargetFile) -> None:
    """Check what the role `targets` names.

    Raises:
        RepositoryError: The file is missing.
        RefusedError: It is not what was signed, or describes another image.
        DocumentError: It has errors.
    """
    trust = parse_boot_trust(read_target(layout, target), source=path)
    if trust.target_path != path:
        raise RefusedError(f"the target {path} describes {trust.target_path}")
