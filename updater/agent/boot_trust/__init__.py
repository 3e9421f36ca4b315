"""What this host's firmware may start: additions to db and dbx that the repository offers, judged and appended.

- `judging.py`: which to append now, which not, and why (pure)
- `databases.py`: reads and appends to the variables, through efivarfs
- `programs.py`: the programs on the boot partitions, by their Authenticode digests
- `applying.py`: all of it together
"""
