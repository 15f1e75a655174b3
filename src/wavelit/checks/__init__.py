"""What a value must be: arguments of functions, entries of settings."""
