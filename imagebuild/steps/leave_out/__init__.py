"""Leaves out files of Debian's packages that a host does not need: decided by what needs a file, not by a fixed list.

The leave-out set is data (`data/leave-out.yaml`).  A file of it stays when something that stays needs it.

patterns.py  paths with `*`
rules.py     the leave-out set as data
survey.py    the content of a tree and the needs of its files; runs inside the tools tree (standard library only)
facts.py     the same as values, with the package that brought each file and the request for it
reach.py     which files stay and why (pure)
lost.py      the check of the result: programs that lack a library or an interpreter (pure)
leaving.py   the build step: survey, decide, remove, check
Not here: kernel modules, which mkosi filters with their dependencies; this package names those that must stay.
"""
