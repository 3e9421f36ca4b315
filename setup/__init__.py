"""Makes a machine ready: host packages, the virtual environment, the lock files.

Rules: runs on the system's own Python (3.11 or newer) with only the standard library and `bedrock`, because nothing
else is installed yet; prints what it does; is safe to repeat; keeps what already exists.
Not here: the tools tree and images, which `imagebuild` makes and caches by itself.
"""
