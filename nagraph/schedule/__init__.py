"""Schedules: how a kernel runs on a machine. What it computes, and in which order it adds, the kernel says.

Read `target` (a machine) and `form` (a schedule as data, whose `text` reads back), then `strategy`, which chooses one: by `products`
how matrix products are cut, by `loops` how other stages run, by `cost` into which chunks. `verify` says what is legal, rule by rule,
`order` in which order a schedule adds up; `legality` is what a kernel allows, `realise` what a schedule makes of it. `overrides` are
schedules that somebody gave, under the `names` of kernels; `tuning` measures `alternatives`, and keeps the fastest.
"""
