"""The steps of a build: each makes one thing from what the steps before it made.

plan.py            the inputs and the output folder of one build
workshop.py        the working folder of one build
agent_program.py   the agent as a self-contained program (freeze.py: its byte code)
filesystems.py     the package tree (mkosi), the root file system and its verity tree (systemd-repart)
initrd/            the initrd
boot.py            UKI, signatures (signing.py), the disk
scratch.py         where mkosi works, and what is cached

Not here: their order (`imagebuild.pipeline`), and the documents of a finished build (`inspection`, `attest`).
"""
