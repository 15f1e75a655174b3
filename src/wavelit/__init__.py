"""Small neural PDE solvers with strong priors."""
__version__ = "0.1.0"
