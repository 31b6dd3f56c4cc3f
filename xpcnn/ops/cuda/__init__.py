"""Fused CUDA kernels, each under the name and signature of the function of :mod:`xpcnn.ops` that it stands in for."""
