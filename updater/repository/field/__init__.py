"""The disks in the field: which layouts hosts were installed with, and whether releases still fit them.

A build records its disk's layout; it travels with the release as the attachment `layout`, so the layouts in the field
are those of all published releases of an image and an architecture, less those an operator declared gone.

- `room.py`: the document, what fits, and when growth reaches a limit (pure)
- `layouts.py`: reads the layouts of a repository, and records which are gone
- `cli.py`: `twinhull repo layouts`
"""
