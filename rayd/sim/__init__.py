"""A whole cluster in one process: the real cores on one heap of events, with virtual time, links that delay, machines
that die, a seeded workload, and checkers that watch from outside. ``python -m rayd.sim --help``.
"""
