"""The runtime: programs run by all threads together, synchronised on finished chunks."""
