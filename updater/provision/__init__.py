"""Provisioning: what one host is to be, apart from its image; shared by the builder and the agent.

- `places.py`: where a document may write, and where not
- `network.py`, `registries.py`, `document.py`: the document `Provision` as a person writes it
- `envelope.py`: a signed document; `policy.py`: what the image lets in by which way; `record.py`: what a host took in
- `files.py`: a document as the files it comes to

All of it is pure.  Not here: finding documents on a host and writing their files (`updater.agent.provisioning`).
"""
