"""Arrays, by what their elements are: names for the types of arguments and results."""

from __future__ import annotations

from typing import Any

import numpy as np

Int = int | np.integer[Any]
"""One integer, Python's or numpy's."""

Array = np.ndarray[Any, Any]

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
"""Affinities, grey values, or bits."""

Numbers = np.ndarray[Any, np.dtype[np.uint32]]
"""Places in a table: what stands for an id inside a block, or within a kernel."""

Places = np.ndarray[Any, np.dtype[Any]]
"""Numbers of rows, or of what has at most as many: uint32 while they fit, else int64, as decided by
`cadseg.storage.scratch.place_type`."""

Ids = np.ndarray[Any, np.dtype[np.uint64]]
"""Voxels, fragments, clusters or segments of a whole volume; also exact sums, counts and scores."""

Heights = np.ndarray[Any, np.dtype[np.int32]]

Integers = np.ndarray[Any, np.dtype[np.int64]]
"""Indices into arrays, and counts that are subtracted."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]
