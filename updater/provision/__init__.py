"""Provisioning: the configuration of one host, apart from its image; shared by the builder and the agent.

- `places.py`: where a document may and may not write
- `network.py`, `registries.py`, `document.py`: the document `Provision` as a person writes it
- `reading.py`: parses documents, signed or not; `policy.py`: which of them an image accepts
- `record.py`: the record of the applied document; `files.py`: the files that a document results in

All of it is pure.  Not here: finding documents on a host and writing their files (`updater.agent.provisioning`).
"""
