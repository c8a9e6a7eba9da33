"""Rewriting: patterns, rules as data, and the greedy rewriter."""
