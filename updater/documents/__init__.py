"""Documents that cross the wire: what a release is, what a channel names, and what comes with them.

    release.py       one built version of an image: its artifacts and the objects that carry them
    channel.py       a signed pointer to a release, with how fast it may spread
    slot_layout.py   the sizes of the partitions that a disk was made with
    signatures.py    Secure Boot signatures as data
    statement.py     provenance, an in-toto statement
    envelope.py      signed bytes (DSSE)
    bom.py           a bill of materials (CycloneDX)
    build_files.py   what the files of a build are called

Rules: they grow by `bedrock.evolution`: a key added next year does not stop a host installed today.
A document is parsed once, at the edge, after the hash or the signature over its bytes was checked.
Agent, repository, server and the builder share these modules; none of them imports one of those.
"""
