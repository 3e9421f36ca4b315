"""The whole path in one command, on real packages, real firmware and a real boot: what `make demo` runs.

keys → three builds → channel → first boot → a container → update → the container again → a faulty update → fall back
"""
