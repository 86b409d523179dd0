"""Affinities → heights → fragments: basins of a climb, block by block."""
