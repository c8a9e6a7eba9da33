"""Programs as object code of any machine, with a runtime that needs no Python: `objects.native_object` makes it.

Read `kernels` (kernels as text for a machine), `entries` (what an entry point knows of its program), `multiply_add`, `objects`.
"""
