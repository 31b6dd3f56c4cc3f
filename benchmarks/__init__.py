"""Side-by-side timings with PyTorch."""
