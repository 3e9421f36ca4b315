"""Reads a bill of materials: CycloneDX in JSON, from this program or another."""

from __future__ import annotations

import warnings

from cyclonedx.model.bom import Bom

from bedrock import strict
from bedrock.errors import DocumentError, Problem


def parse_bom(data: bytes, *, source: str) -> Bom:
    """Read a CycloneDX document.

    Raises:
        DocumentError: Not JSON, not CycloneDX, or a part of it that does not fit the model.
    """
    document = strict.parse_json(data, source=source)
    if not isinstance(document, dict) or document.get("bomFormat") != "CycloneDX":
        found = document.get("bomFormat") if isinstance(document, dict) else document
        raise DocumentError(source, (Problem("bomFormat", f"must be CycloneDX, not {str(found)[:60]!r}"),))
    try:
        with warnings.catch_warnings():
            # Warnings about optional parts that another program left out.
            warnings.simplefilter("ignore")
            bom: object = Bom.from_json(document)  # type: ignore[attr-defined]
    except Exception as error:
        # The library's deserializer passes on every exception of its conversions.
        raise DocumentError(source, (Problem("", f"not CycloneDX: {' '.join(str(error).split())}"),)) from error
    if not isinstance(bom, Bom):
        raise DocumentError(source, (Problem("", "not CycloneDX"),))
    return bom
