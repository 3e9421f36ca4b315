"""Entry point of `python3 -m setup`; refuses a Python that is too old before anything newer is imported."""

import sys

OLDEST = (3, 11)
HAVE = tuple(sys.version_info[:2])

if HAVE < OLDEST:
    sys.exit(
        "set-up: %s is Python %d.%d; Twinhull needs 3.11 or newer.\n"  # noqa: UP031 - must parse on any Python 3
        "Name another one: make PYTHON=/usr/bin/python3.12 setup" % (sys.executable, HAVE[0], HAVE[1])
    )

from setup.cli import main  # noqa: E402 - its syntax is too new for the Pythons refused above

sys.exit(main(sys.argv[1:]))
