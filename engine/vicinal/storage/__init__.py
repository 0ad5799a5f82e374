"""Files only: row files, catalogues, snapshots, and the one seam for all input and output."""
