"""File names in a build: its release document, its artifacts and its attachments.

Pure; shared by building and publishing.
"""

from __future__ import annotations

from typing import Final

from updater.documents.release import ArtifactKind
from updater.documents.signatures import SIGNATURES, SIGNATURES_FILE
from updater.documents.slot_layout import LAYOUT, LAYOUT_FILE
from updater.documents.statement import ENVELOPE_FILE

SBOM, SBOM_FILE = "sbom", "sbom.cdx.json"
LOCK, LOCK_FILE = "lock", "image.lock"
PROVENANCE = "provenance"

RELEASE_FILE: Final = "release.json"
CERTIFICATES_FOLDER: Final = "certificates"
# A build whose Secure Boot key was somewhere else has both of these until it is finished.
SIGNING_REQUEST_FILE, UNSIGNED_FOLDER = "signing-request.json", "unsigned"
ARTIFACT_FILES: Final = {kind.value: kind.file_name for kind in ArtifactKind}
# A build has some of these; the signed provenance is made from its `provenance.json` when it is published.
ATTACHMENT_FILES: Final = {
    SBOM: SBOM_FILE,
    PROVENANCE: ENVELOPE_FILE,
    LAYOUT: LAYOUT_FILE,
    LOCK: LOCK_FILE,
    SIGNATURES: SIGNATURES_FILE,
}
RELEASE_FILES: Final = ARTIFACT_FILES | ATTACHMENT_FILES
