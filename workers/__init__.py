"""One block: read, call one kernel, write; one file per step."""
