"""Schedules: how a kernel runs on a machine. What it computes, and in which order it adds, the kernel says.

Read `target` (a machine) and `form` (a schedule as data), then `strategy`, which chooses one: by `products` how matrix products are cut,
by `loops` how other stages run, by `cost` into which chunks. `legality` is what a kernel allows, `realise` what a schedule makes
of it.
"""
