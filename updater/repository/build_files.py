"""What the files of a build are called: its release document, its artifacts, and what is attached to it.

Pure; a build and whoever publishes it agree here.
"""

from __future__ import annotations

from typing import Final

from updater.release import ArtifactKind
from updater.repository.field.room import LAYOUT, LAYOUT_FILE
from updater.repository.signatures import SIGNATURES, SIGNATURES_FILE
from updater.repository.statement import ENVELOPE_FILE

SBOM, SBOM_FILE = "sbom", "sbom.cdx.json"
LOCK, LOCK_FILE = "lock", "image.lock"
PROVENANCE = "provenance"

RELEASE_FILE: Final = "release.json"
ARTIFACT_FILES: Final = {kind.value: kind.file_name for kind in ArtifactKind}
# A build has those it made; the signed provenance is made from its `provenance.json` when it is published.
ATTACHMENT_FILES: Final = {
    SBOM: SBOM_FILE,
    PROVENANCE: ENVELOPE_FILE,
    LAYOUT: LAYOUT_FILE,
    LOCK: LOCK_FILE,
    SIGNATURES: SIGNATURES_FILE,
}
RELEASE_FILES: Final = ARTIFACT_FILES | ATTACHMENT_FILES
