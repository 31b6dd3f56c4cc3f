"""Kernels for NumPy's arrays, compiled by Numba: each stands in for the function of the same name in ``ops/``."""
