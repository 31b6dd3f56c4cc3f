"""Stateless arithmetic: an operation takes ``xp`` and arrays, and returns its result and its backward function."""
