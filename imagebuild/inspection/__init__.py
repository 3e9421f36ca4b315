"""The contents of an image, with reasons and costs: the record that a build writes, and the reports made from it.

- `contents.py`: the record: every file and its owner, every package and why it is there (pure)
- `record.py`: writes and reads the record
- `costs.py`: what some files cost, raw and compressed
- `report.py`: the report on one build: sizes raw and compressed, programs, units, modules
- `why.py`: why a path is or is not in an image (pure)
- `compare.py`: what differs between two builds (pure)
- `render.py`, `cli.py`: output for people
"""
