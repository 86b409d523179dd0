"""How numba compiles the functions that loop over voxels, fragments and edges.

A kernel is compiled for the types of its first call and kept on disk (`cadseg.kernel_cache`), so
that other processes load it. It runs without the interpreter's lock. The annotations are for
readers and type checkers; numba goes by the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba as nb

from cadseg.kernel_cache import folder

Function = TypeVar("Function", bound=Callable[..., Any])

_CONFIG: Any = nb.config  # without types
_FOLDER = folder(_CONFIG.CACHE_DIR)


def kernel(function: Function) -> Function:
    """`function`, compiled when it is first called."""
    return _compiled(function)


def in_place(function: Function) -> Function:
    """A kernel that makes no array and returns none: it works on those that it is given.

    Nothing has to be freed then, so numba is told not to count references (``_nrt``, an option that
    it does not document). It would count at each access to an array in a named tuple, which took
    half of the time of `merge_best` and a third of that of `merge_chains` (numba 0.68).
    """
    return _compiled(function, _nrt=False)


def inlined(function: Function) -> Function:
    """A kernel that is put into those that call it: for small ones in inner loops."""
    return _compiled(function, inline="always")


def _compiled(function: Function, **options: Any) -> Function:
    """`function`, compiled when it is first called, and kept in our folder, whatever others do."""
    before, _CONFIG.CACHE_DIR = _CONFIG.CACHE_DIR, _FOLDER
    try:
        njit = nb.njit(nogil=True, cache=_FOLDER is not None, **options)
        return cast("Function", njit(function))
    finally:
        _CONFIG.CACHE_DIR = before
