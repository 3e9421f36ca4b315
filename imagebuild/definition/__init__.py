"""What to build: `image.yaml`, read strictly, and the mkosi and systemd-repart configuration made from it.

Pure except for reading the definition's folder: nothing here runs a program or uses a network.
"""
