"""With which numbers: one YAML file per kind of data."""
