"""From an image definition to a bootable, signed image, and virtual machines to run it in.

image.yaml -> tools tree -> mkosi (package tree, root file system, UKI) -> signing -> systemd-repart (disk) ->
release.json
"""
