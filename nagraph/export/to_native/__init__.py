"""Native libraries: an optimised graph as machine code with a C header, which needs neither Python nor any other library.

Read `library` (what is written), `functions` (how C sees an entry point), `header`, `examples`, `linking`.
"""
