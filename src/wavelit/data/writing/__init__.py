"""Arrays to datasets in The Well's format."""
