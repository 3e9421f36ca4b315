"""What of Debian's packages a host goes without: found by what reaches a file, not by a fixed list.

The leave-out set is data (`data/leave-out.yaml`).  A file of it stays when something that stays reaches it.

patterns.py  paths with `*`
rules.py     the leave-out set as it is written
survey.py    what a tree holds and what its files need; runs inside the tools tree (standard library only)
facts.py     the same as values, with who brought each file and who asked for it
reach.py     which files stay and why (pure)
lost.py      the check of the result: what stays and misses a library or an interpreter (pure)
leaving.py   the build step: survey, decide, remove, check
Not here: kernel modules, which mkosi filters with what they depend on; this package names those that must stay.
"""
