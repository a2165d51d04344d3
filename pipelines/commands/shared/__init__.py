"""Flags that several commands read, and what is made of their values."""
