"""UKIs as ukify makes them, with small sections."""

from __future__ import annotations

from imagebuild.steps.boot import measured_key
from imagebuild.steps.plan import BuildPlan
from keys.secureboot import measured
from tests.fakes.pe_files import pe_file


def unsigned_uki(plan: BuildPlan, kernel: bytes = b"uki", *, root_hash: str = "ef" * 32) -> bytes:
    """The UKI of a plan before anything of it is signed, for the plan's keys."""
    key = measured_key(plan.signatures.certificates)
    release = f'ID=debian\nIMAGE_ID="{plan.definition.id}"\nIMAGE_VERSION="{plan.version}"\n'
    sections = {
        ".osrel": release.encode(),
        ".cmdline": f"roothash={root_hash} quiet --\n".encode(),
        ".pcrpkey": measured.public_pem(key),
        ".linux": kernel,
        ".pcrsig": measured.blank_document(key),
    }
    return pe_file(*sections.values(), names=tuple(sections))
