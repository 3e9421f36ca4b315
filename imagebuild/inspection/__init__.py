"""What an image holds, why, and what each part of it costs: the record a build leaves, and the reports made from it.

- `contents.py`: the record: every file and who it comes from, every package and why it is there (pure)
- `record.py`: writes and reads the record
- `costs.py`: what some files cost, raw and as sent
- `report.py`: what is told about one build: sizes raw and as sent, programs, units, modules
- `why.py`: why a path is in an image, or is not (pure)
- `compare.py`: what is told about two builds (pure)
- `shown.py`, `cli.py`: both for people
"""
