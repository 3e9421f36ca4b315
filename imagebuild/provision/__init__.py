"""`twinhull provision`: a host's document checked, signed, and written into the boot partition of a disk.

- `fat.py`: which parts of a FAT file system are which, and the order in which a change of it is safe; pure
- `disks.py`: a raw image, a qcow2 image or a block device, read and written in parts
- `placing.py`: a credential on the boot partition, by way of mtools
- `signing.py`: keys of one's own, and documents signed with them
"""
