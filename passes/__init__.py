"""The passes, one a file, which bears its name: each a pure function Graph -> Graph."""
