"""The on-host agent, program `updater`: plan, fetch, write, verify, flip, bless, roll back.

Rules: what to do is decided in pure modules (`state`, `plan`, `trial`, `window`) from facts read off the disk;
`install` is the only module that writes a slot; `client` is the only one that knows TUF; `click` stays in `cli`.
"""
