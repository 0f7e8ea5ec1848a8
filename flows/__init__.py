"""Flows: each reads like the method section of the paper, and the command line starts them."""
