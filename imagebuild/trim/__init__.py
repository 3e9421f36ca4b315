"""Proposes to remove what a boot, containers and an update never touched: `twinhull trim`.

- `page_cache.py`: what a running host touched, by its page cache (pure)
- `patterns.py`, `keeping.py`: what is kept although no test touches it: `data/keep.yaml` and the definition's own
- `tree.py`: the dependencies between an image's files (pure); `needs.py` reads them
- `proposals.py`: from touched and kept to what could be dropped (pure)
- `workload.py`, `life.py`, `recording.py`: the commands that the host runs, their order, and the samples taken
- `judging.py`: the proposals for a build and their savings; `trimming.py`: everything from a definition to these
- `writing.py`: proposals as lines of `image.yaml`
- `render.py`, `cli.py`: for people
"""
