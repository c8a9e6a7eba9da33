"""The passes, one a file: each a pure function Graph -> Graph."""
