"""Analyses of graphs: what passes, plans and backends ask of a graph, and change nothing."""
