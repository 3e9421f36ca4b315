"""Building a published release again and telling whether the same bytes came out.

- `inputs.py`: is what is here what the release was made from? (pure)
- `rebuild.py`: take the release out of its repository, build it again with the published signatures, compare
- `differences.py`: where two files differ
- `render.py`, `cli.py`: for people
"""
