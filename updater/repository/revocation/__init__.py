"""What may boot: additions to the firmware variables db and dbx of hosts, published like everything else.

- `boot_trust.py`: the document of an image, read from the repository and written to it
- `revoke.py`: revoking releases, and trusting another certificate
- `cli.py`: `twinhull keys revoke-boot` and `twinhull keys trust-boot`
"""
