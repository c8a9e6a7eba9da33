"""What one types: arguments, options and help of each command. What they do is in modules of the same names above."""
