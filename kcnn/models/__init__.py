"""The architectures: a file for each family, found by the registry."""
