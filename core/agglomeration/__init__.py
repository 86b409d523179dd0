"""Rows of the graph → the merge tree, and its cuts."""
