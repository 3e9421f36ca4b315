"""Options and argument types that the commands of a repository share; `cli.py`, because they are click's."""
