"""`updater etc-diff`: what this host changed in `/etc`, what the image changed since, and what will not persist.

- `cli.py`: the commands; `overview.py`: puts the rest together
- `layers.py`: reads the folders: the image's `/etc`, the host's layer above it, and what was refused at the boot
- `origins.py`: remembers what the image had when the host made an edit
- `comparing.py`: three-way differences; `contents.py`: unified diffs, bounded and without secrets
"""
