"""What is wrong with a dataset folder, and what it holds."""
