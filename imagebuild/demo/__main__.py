"""`python -m imagebuild.demo`."""

from imagebuild.demo.cli import main

main()
