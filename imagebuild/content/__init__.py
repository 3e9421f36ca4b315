"""Completes and checks a built tree before it becomes a root filesystem: no missing parts, no secrets, stable ids.

tree.py           reading and changing the tree (tree_program.py, which runs where its files belong to root)
accounts.py       ids of users and groups that are the same in every version
state.py          files that packages ship below /var, which the first boot makes
overwrites.py     files of a definition that would replace a package's
services.py       units of packages: enabled, disabled, masked, forgotten
kernel.py         modules and settings that the image's kernel knows
secrets.py        unwanted private keys, machine identities and passwords
sshd.py           host keys that are made on the host
locale.py         the locale's own data
verify.py         units, Quadlets and other files of a definition, checked by the programs that will read them
settle.py         the step of a build that does all of it
Not here: which packages the tree holds and which files are left out (`imagebuild.steps`).
"""
