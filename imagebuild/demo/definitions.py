"""The three image definitions of the demo, made from the reference one.

1.0.1 brings one more Debian package, 1.0.2 a health check that fails on purpose.
"""

from __future__ import annotations

from pathlib import Path

from imagebuild.rehearsal.definition import copy_definition

REFERENCE = Path(__file__).parents[2] / "examples" / "container-host"
IMAGE = "container-host"
FIRST = "1.0.0"
SECOND = "1.0.1"
SICK = "1.0.2"
ADDED_PACKAGE = "less"
ADDED_PROGRAM = "/usr/bin/less"
REASON = "this version is faulty on purpose"
_CHECK = {
    "path": "/usr/lib/twinhull/health.d/50-on-purpose",
    "content": f"#!/bin/sh\necho '{REASON}'\nexit 1\n",
    "mode": "0755",
}


def write_definition(folder: Path, version: str) -> Path:
    """Write the definition of one version into `folder`, replacing what is there."""
    marker = {"path": "/usr/share/demo/version", "content": f"{version}\n"}
    files = [marker, _CHECK] if version == SICK else [marker]
    copy_definition(REFERENCE, folder, lambda document: document.update(files=files))
    if version != FIRST:
        # mkosi installs it after its cached tree, so that the other packages are not installed again.
        (folder / "mkosi.conf").write_text(f"[Content]\nVolatilePackages={ADDED_PACKAGE}\n")
    return folder
