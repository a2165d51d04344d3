"""The version of kcnn, of the package as of the program."""

__version__ = "0.1.0"
