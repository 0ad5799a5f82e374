"""What `vicinal.Index` and `vicinal.BFIndex` are made of: points in memory, filters over labels, one file to save."""
