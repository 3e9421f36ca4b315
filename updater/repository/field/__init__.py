"""The disks in the field: the layouts that hosts were installed with, and whether releases still fit them.

A build records its disk's layout, and the release carries it as the attachment `layout`, so the layouts in the field
are those of all published releases of an image and an architecture, without those that an operator retired.

- `room.py`: what fits, and when growth reaches a limit (pure)
- `layouts.py`: reads the layouts of a repository, and records which are retired
- `cli.py`: `twinhull repo layouts`
"""
