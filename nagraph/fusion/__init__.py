"""Fusion decides which nodes become one region: by rows, in groups that grow, with remarks on why, outlined as calls of their bodies."""
