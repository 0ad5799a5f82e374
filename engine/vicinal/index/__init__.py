"""Indexes over slots: the graph, the exact scan, and the graph's file form. They hold links, never vectors."""
