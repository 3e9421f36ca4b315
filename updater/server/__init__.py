"""The update server: HTTP over a repository.

`app.py` puts the parts together, each part's routes stand in a module of their own, `listen.py` runs it.
Rules: the server holds no key and changes no file; what it says needs no trust, because hosts verify every byte.
Not in here: making and signing the repository (`updater.repository`).
"""
