"""What a boot, containers and an update never touched, proposed for removal: `twinhull trim`.

- `page_cache.py`: what a running host touched, by its page cache (pure)
- `patterns.py`, `keeping.py`: what is kept though no test reaches it: `data/keep.yaml` and the definition's own
- `tree.py`: what needs what in an image (pure); `needs.py` reads it
- `proposals.py`: from touched and kept to what could be dropped (pure)
- `workload.py`, `life.py`, `recording.py`: what the host is made to do, in which order, and the samples taken of it
- `judging.py`: what a build could lose and what that wins; `trimming.py`: the whole way from a definition to that
- `writing.py`: proposals as lines of `image.yaml`
- `render.py`, `cli.py`: for people
"""
