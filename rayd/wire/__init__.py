"""Sans-I/O wire protocol: bytes to messages and messages to bytes, nothing else."""
