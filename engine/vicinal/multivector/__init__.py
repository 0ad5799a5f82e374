"""multivector."""
