"""Bytes: volumes that are read, a run's arrays and tables, and where they lie."""
