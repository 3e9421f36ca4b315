"""`twinhull provision`: checks and signs a host's document, and writes it to the boot partition of a disk.

- `fat.py`: the parts of a FAT file system, and the order in which a change to it is safe; pure
- `disks.py`: a raw image, a qcow2 image or a block device, read and written in parts
- `placing.py`: a credential on the boot partition, written with mtools
- `signing.py`: keys for signing documents, and signed documents
"""
