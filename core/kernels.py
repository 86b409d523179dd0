"""How numba compiles the functions that loop over voxels, fragments and edges.

A kernel is compiled for the types of its first call and kept in the folder of its file, so that
other processes load it. It runs without the interpreter's lock. The annotations are for readers and
type checkers; numba goes by the values.

numba notices a change of a kernel's own file, not of the kernels that it calls: after changing one
of these, delete the ``*.nbi`` files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba as nb

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True}


def kernel(function: Function) -> Function:
    """`function`, compiled when it is first called."""
    return cast("Function", nb.njit(**_OPTIONS)(function))


def in_place(function: Function) -> Function:
    """A kernel that makes no array and returns none: it works on those that it is given.

    Nothing has to be freed then, so numba is told not to count references (``_nrt``, an option that
    it does not document). It would count at each access to an array in a named tuple, which took
    half of the time of `merge_best` and a third of that of `merge_chains` (numba 0.68).
    """
    return cast("Function", nb.njit(**_OPTIONS | {"_nrt": False})(function))


def inlined(function: Function) -> Function:
    """A kernel that is put into those that call it: for small ones in inner loops."""
    return cast("Function", nb.njit(**_OPTIONS | {"inline": "always"})(function))
