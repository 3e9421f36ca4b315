"""The disk: layout, slots, GPT identity, boot entries, FAT, the verity tree and block I/O.

Rules: nothing here knows what a release, a channel or a host is.  `version`, `layout`, `gpt`, `entries` and `hashtree`
are pure; `blockio`, `disk` and `verity` act, over the `BlockDevice` protocol.
"""
