"""Layouts and operations with their gradients written out, each beside its definition."""
