"""Benchmarks that anyone can run again: `wavelit benchmark speed` writes one CSV per part."""
