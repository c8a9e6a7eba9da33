"""StableHLO: a graph as the text of a module, in its packages `operators` what each op becomes."""
