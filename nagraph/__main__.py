"""`python -m nagraph` is the command `nagraph`."""

from nagraph.cli import main

main()
