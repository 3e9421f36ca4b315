"""What firmware with Secure Boot reads: signatures of programs, and updates of its lists of what may start.

    pe.py              the digest of a program (Authenticode), and its table of signatures
    authenticode.py    a signature of that digest
    siglist.py         lists of certificates and hashes, as db and dbx hold them
    variable.py        a signed addition to such a list
    requests.py        the same by a key that is somewhere else
    der.py             the few forms of ASN.1 that these need

Nothing here holds a private key: each signature is made from bytes that `keys.signers` signs, here or elsewhere.
"""
