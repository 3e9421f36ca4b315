"""Copies of a repository: mirrors, air-gapped sites, and what reproducing or inspecting a published release needs.

- `web.py`: files over http(s), by the gate that the agent has (`updater.transfer.http`), with tries of its own
- `sources.py`: a repository to copy from, a folder or a URL
- `staging.py`: its documents, verified from a root that the caller names
- `copying.py`: the copy, in an order in which readers see the old repository or the new one
- `cli.py`: `twinhull repo copy`

Rules: nothing of the source is trusted before its hash was signed for; a copy never goes back behind what it has.
Hosts have a client of their own (`updater.agent`), whose network side is a process without keys or disks.
"""
