"""Rebuilds a published release and says whether the bytes are the same.

- `inputs.py`: compares the inputs here with those of the release (pure)
- `rebuild.py`: extracts the release from its repository, rebuilds it with the published signatures, compares
- `differences.py`: where two files differ
- `render.py`, `cli.py`: for people
"""
