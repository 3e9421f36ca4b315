"""The signed repository: plain files that any static web server can serve, and the commands that change them.

    REPO/metadata/  N.root.json N.targets.json N.releases.json N.channels.json N.snapshot.json timestamp.json
    REPO/targets/   releases/<image>/<version>/<sha256>.<architecture>.json   channels/<sha256>.<name>.json
    REPO/objects/   <first two digits>/<sha256>
    REPO/retired-layouts.json   the publisher's own record (`field/`); no reader needs it

Rules: a file is written once and never changed, except `timestamp.json`, which is replaced in one step and last; so a
reader always sees the old state or the new one, even if a publisher was interrupted.
What nothing names any more is removed by `repo gc` alone.
Metadata on the disk are verified against the keyring before they are signed again.
Not in here: serving (`updater.server`) and reading as a host (`updater.agent`).
"""
