"""Provisioning on the host: reads documents, chooses one and applies it (`twinhull-provision.service`).

- `ways.py`: reads documents and credentials from the firmware and the boot partition
- `accounts.py`: the accounts of this host; `host_files.py`: writes files, only below `/etc` and `/var`
- `applying.py`: applies a document; `provisioning.py`: one boot, from reading the documents to recording the result
"""
