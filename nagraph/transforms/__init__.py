"""Transforms: functions from graphs to graphs (derivatives, batches, parts), and the public functions made of them."""
