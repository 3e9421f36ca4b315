"""The three image definitions of the demo, made from the reference one.

1.0.1 brings one more Debian package, 1.0.2 a health check that fails on purpose.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

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
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(REFERENCE, folder)
    path = folder / "image.yaml"
    definition: dict[str, Any] = yaml.safe_load(path.read_text())
    definition["files"] = [{"path": "/usr/share/demo/version", "content": f"{version}\n"}]
    # The demo's shell comes with every boot as an unsigned credential.
    definition["provision"] = {"unsigned": "always"}
    if version != FIRST:
        # mkosi installs it after its cached tree, so that the other packages are not installed again.
        (folder / "mkosi.conf").write_text(f"[Content]\nVolatilePackages={ADDED_PACKAGE}\n")
    if version == SICK:
        definition["files"].append(_CHECK)
    path.write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder
