"""The initrd: a shell script, the few programs it calls, and the drivers that lead to a disk.

    content.py    what goes in, as `data/initrd.yaml` says
    programs.py   programs and libraries out of Debian's packages, which are unpacked and not installed
    image.py      the whole tree with its kernel modules, packed

What it does at boot is described in `data/initrd/init`.
"""
