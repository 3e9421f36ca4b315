"""Signing in parts: what is to be signed goes in one file to the keys, and the signatures come back in it.

- `request.py`: the file; says what is to be signed, why and by whom, and holds the exact bytes
- `signing.py`: puts in the signatures of the keys that are here
- `cli.py`: `twinhull sign`

Rules: nothing here knows what the bytes mean.  Each kind of entry brings a function that puts its payload into words
(`signing.Words`), for a signer believes the payload and never the description that came with it.
"""
