"""Data in The Well's format: reading, normalising, checking, writing and generating it."""
