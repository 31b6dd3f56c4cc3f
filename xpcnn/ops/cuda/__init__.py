"""Fused CUDA kernels, each with the name and signature of the function in :mod:`xpcnn.ops` that it replaces."""
