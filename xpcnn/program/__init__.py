"""Execution order: a network as a list of nodes, and the code that runs them."""
