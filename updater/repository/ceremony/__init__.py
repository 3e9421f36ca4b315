"""Exchanging keys and renewing root and targets, also where no machine has all the keys.

- `differences.py`: which keys and thresholds a keys folder wants changed
- `drafts.py`: the documents that are to be signed, as a signing request (`keys.ceremony`) and back
- `words.py`: what such a document says, for whoever signs it
- `pending.py`: the ceremony that is under way in a repository, and its end
- `cli.py`: `twinhull root`
"""
