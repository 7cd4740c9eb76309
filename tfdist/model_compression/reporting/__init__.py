"""What a compressed model is, beside the one that it was made of."""
