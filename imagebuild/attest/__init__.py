"""What a build says about itself: what is in it, what it was made from, and which known holes that means.

- `licences.py`: what a Debian copyright file or a wheel declares (pure)
- `archive.py`: SHA-256 of the Debian packages that were installed
- `owners.py`: which packages brought what is in an image (pure)
- `materials.py`: everything a build was put together from, gathered
- `sbom.py`: that as a CycloneDX document (pure)
- `provenance.py`: that as an in-toto statement (pure); `documents.py` writes both
- `inventory.py`, `tracker.py`, `vex.py`, `scan.py`: matching an SBOM with known vulnerabilities
- `render.py`, `cli.py`: for people
"""
