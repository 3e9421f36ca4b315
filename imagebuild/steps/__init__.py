"""The steps of a build: each makes one thing from what the steps before it made.

plan.py            what one build is made from and where it goes
workshop.py        the working folder of one build
agent_program.py   the agent as a self-contained program (freeze.py: its byte code)
filesystems.py     the package tree (mkosi), the root file system and its verity tree (systemd-repart)
initrd/            the initrd
boot.py            UKI, signatures (signing.py), the disk
scratch.py         where mkosi works, and what is kept of it
Not here: their order (`imagebuild.pipeline`), and what describes a finished build (`inspection`, `attest`).
"""
