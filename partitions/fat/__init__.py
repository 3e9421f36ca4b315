"""FAT16 and FAT32 with long names: reading, judging, and changes that are a single write of one sector.

Linux' vfat renames a file in several writes and makes the empty new name durable first; a power cut between them loses
the file.  A boot entry must not be lost, so its rename is one 512-byte write of our own, on the unmounted partition.
Creating and removing files is left to the kernel.

Rules: every number on the disk is checked before it is used, every chain and folder is bounded, damage ends in a
`FatError`.  `geometry`, `names`, `table`, `directory`, `change` and `placement` are pure; `volume` and `check` read;
`writing` is the only module that writes.
Sources: Microsoft, "FAT32 File System Specification" 1.03 of 2000, and "Microsoft FAT Specification" of 2005.
"""
