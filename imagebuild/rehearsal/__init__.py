"""What the demo and the trimmer rehearse updates with, on this host and thrown away afterwards.

- `stage.py`: keys, builds, a repository and its server on the loopback
- `registry.py`: a container registry with one image
- `guest.py`: what is asked of the host that runs in the machine
"""
