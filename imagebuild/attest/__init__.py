"""Attestations of a build: its contents, its inputs, and the known vulnerabilities of its contents.

- `licences.py`: what a Debian copyright file or a wheel declares (pure)
- `archive.py`: SHA-256 of the Debian packages that were installed
- `owners.py`: which packages brought the files of an image (pure)
- `materials.py`: gathers everything a build was put together from
- `sbom.py`: the materials as a CycloneDX document (pure)
- `provenance.py`: the materials as an in-toto statement (pure); `documents.py` writes both
- `inventory.py`, `tracker.py`, `vex.py`, `scan.py`: matching an SBOM with known vulnerabilities
- `render.py`, `cli.py`: for people
"""
