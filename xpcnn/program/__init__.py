"""The order of work: a network as a list of nodes, and what runs it."""
