"""The Well's format on disk: what a file must be to be read."""
