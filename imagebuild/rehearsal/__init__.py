"""The temporary environment in which the demo and the trimmer rehearse updates on this host.

- `stage.py`: keys, builds, a repository and its server on the loopback
- `registry.py`: a container registry with one image
- `guest.py`: commands to the host that runs in the machine
"""
