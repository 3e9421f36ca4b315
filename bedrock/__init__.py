"""The foundation of every other package: the subprocess gate, durable writes, strict documents, the error root.

Rules: nothing here knows what an image, a slot or a key is, and nothing here imports another package of Twinhull.
"""
