"""Makes a machine ready: host packages, the virtual environment, the lock files.

Rules: runs on the system's own Python (3.11 or newer) with the standard library and `bedrock` alone, because nothing
else is installed yet; says what it does; safe to run again; what is already there is kept.
Not here: the tools tree and images, which `imagebuild` makes and caches by itself.
"""
