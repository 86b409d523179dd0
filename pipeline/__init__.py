"""The whole volume: which blocks, in which order, on which machine."""
