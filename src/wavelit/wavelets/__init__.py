"""The discrete wavelet transform: definition, tile matrices, lifting."""
