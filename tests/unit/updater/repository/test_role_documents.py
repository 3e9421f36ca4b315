from __future__ import annotations

import json

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Timestamp

from keys.roles import TufRole
from updater.errors import RefusedError
from updater.repository.role_documents import check_signatures, parse_document

KEY = CryptoSigner.generate_ed25519()


def test_what_cannot_be_brought_into_the_form_that_is_signed_is_refused() -> None:
    root = Root()
    root.add_key(KEY.public_key, "timestamp")
    metadata: Metadata[Timestamp] = Metadata(Timestamp())
    metadata.sign(KEY)
    check_signatures(root, TufRole.TIMESTAMP, metadata)
    document = json.loads(metadata.to_bytes())
    document["signed"]["since"] = 0.5  # canonical JSON has no fractions
    broken = parse_document(json.dumps(document).encode(), Timestamp, source="timestamp.json")
    with pytest.raises(RefusedError, match=r"timestamp metadata .* is refused"):
        check_signatures(root, TufRole.TIMESTAMP, broken.metadata)
