"""Pure state machines: no clock, no I/O, no logging, no global randomness. One door in (``step``), one door out
(``Effects``).
"""
