"""The figures, one script each; each is a module too, whose functions take arrays and return a matplotlib Figure."""
