"""What to build: `image.yaml`, read strictly, and the same as mkosi's and systemd-repart's own configuration.

Pure but for reading the definition's folder: nothing here runs a program or asks a network.
"""
