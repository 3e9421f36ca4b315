"""Provisioning on the host: what came in, what counts of it, and the files it comes to (`twinhull-provision.service`).

- `ways.py`: documents and credentials as the firmware and the boot partition hand them over
- `accounts.py`: who is who on this host; `host_files.py`: files written below `/etc` and `/var` and nowhere else
- `applying.py`: a document applied; `provisioning.py`: one boot, from what came to the record of it
"""
