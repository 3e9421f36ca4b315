"""What an image holds, why, and what each part of it costs: the record a build leaves, and the reports made from it.

- `contents.py`: the record: every file and who it comes from, every package and why it is there (pure)
- `record.py`: writes and reads the record
- `costs.py`: what some files cost, raw and compressed
- `report.py`: the report on one build: sizes raw and compressed, programs, units, modules
- `why.py`: why a path is in an image, or is not (pure)
- `compare.py`: what differs between two builds (pure)
- `render.py`, `cli.py`: both for people
"""
