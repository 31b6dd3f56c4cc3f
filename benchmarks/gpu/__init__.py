"""xpcnn on CuPy beside PyTorch on the same GPU, in one run of at most 8 minutes: ``python -m benchmarks.gpu``."""
