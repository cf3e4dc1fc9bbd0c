"""Everything that goes wrong, with real processes, sockets and signals."""
