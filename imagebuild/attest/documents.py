"""The last step of a build: `sbom.cdx.json`, `provenance.json` and the lock it was made from into its folder."""

from __future__ import annotations

from bedrock.digest import file_sha256
from imagebuild.attest.materials import gather
from imagebuild.attest.provenance import BuildEnvironment, make_provenance
from imagebuild.attest.sbom import make_sbom
from imagebuild.definition.image import LOCK_FILE, definition_digest
from imagebuild.inputs.lockfile import write_lock
from imagebuild.inspection.contents import Contents
from imagebuild.steps.products import Initrd, PackageTree
from imagebuild.steps.workshop import Workshop
from updater.documents.build_files import ARTIFACT_FILES, SBOM_FILE
from updater.documents.statement import PROVENANCE_FILE, ExternalParameters


def write_attestations(shop: Workshop, contents: Contents, tree: PackageTree, initrd: Initrd) -> None:
    """Write the bill of materials, the provenance and the lock into the build's folder.

    Raises:
        BuildError: What dpkg recorded of the image, the initrd or the tools tree cannot be read.
    """
    plan, materials = shop.plan, gather(shop, contents, tree, initrd)
    sbom = make_sbom(plan.definition, plan.version, materials, inputs_digest=plan.digest)
    (shop.out / SBOM_FILE).write_bytes(sbom)
    lock = None
    if plan.supply.locked is not None:
        lock = shop.out / LOCK_FILE
        lock.write_bytes(write_lock(plan.supply.locked))
    subjects = {name: file_sha256(shop.out / name) for name in (*ARTIFACT_FILES.values(), SBOM_FILE)}
    asked = ExternalParameters(
        image=plan.definition.id,
        version=str(plan.version),
        profile=plan.profile.value if plan.profile else "",
        definitionSha256=definition_digest(plan.folder),
        rootOfTrustSha256=file_sha256(plan.root_of_trust),
        lockSha256=file_sha256(lock) if lock else None,
    )
    surroundings = BuildEnvironment(shop.tools.identity, plan.supply.packages.digest)
    (shop.out / PROVENANCE_FILE).write_bytes(make_provenance(subjects, asked, materials, surroundings))
