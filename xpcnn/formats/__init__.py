"""Models in the files of others."""
