"""HTTP service over the public names of vicinal."""
