"""What keeps a repository whole and valid after the first day.

- `refresh.py`: signs again before documents expire
- `status.py`: what expires when, and whose turn it is
- `verify.py`: checks everything, as a client that trusts nothing
- `listing.py`: the published releases, and who points to them
- `withdraw.py`: no host takes a release any more
- `garbage.py`: files that nothing needs
- `cli.py`: the commands
"""
