"""Programs of this machine, played by shell scripts in a folder that is all of `PATH`."""

from __future__ import annotations

from pathlib import Path


def write_program(folder: Path, name: str, body: str) -> Path:
    """A shell script of this name; it may call nothing but what the shell brings."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path
