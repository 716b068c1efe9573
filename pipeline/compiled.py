"""How kernels are compiled."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

__all__ = ["compiled", "compiled_generator"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compiles at the first call of a process, or loads what an earlier process compiled.

    numba keeps machine code in NUMBA_CACHE_DIR, else in `__pycache__` beside the function's file, else in the user's
    cache folder. Where it can write to none of them, each process compiles anew. It notices edits of the file of the
    function only: a kernel and the helpers that it calls stand in one file.
    """
    try:
        return cast(Callable[_P, _R], numba.njit(nogil=True, cache=True)(function))
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return cast(Callable[_P, _R], numba.njit(nogil=True)(function))


def compiled_generator(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compiles a generator together with each kernel that runs it, and keeps no machine code of it alone.

    A kernel that is compiled when the generator comes from the cache fails: numba 0.68 does not know how to go on with
    such a generator.
    """
    return cast(Callable[_P, _R], numba.njit(nogil=True)(function))
