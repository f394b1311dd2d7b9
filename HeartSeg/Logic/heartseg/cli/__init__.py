"""The command line ``heartseg``: a thin layer that parses, shows progress and prints; the work is done below it."""
