"""The update server: HTTP over a repository.

`app.py` puts the parts together, each part's routes are in a module of their own, `listen.py` runs it.
Rules: the server holds no key and changes no file; hosts need not trust it, because they verify every byte.
Not in here: making and signing the repository (`updater.repository`).
"""
