"""The object store of one machine: which bytes are whose (pure) and the shared memory they lie in (I/O)."""
