"""How a vector is stored and scored: frames, cells, lines of code, and the choice among them."""
