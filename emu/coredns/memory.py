"""What a process does with its memory once the bulk of its objects is in."""

from __future__ import annotations

import ctypes
import gc


def settle() -> None:
    """Keep what is there, and give back what reading it took.

    To look at all objects again and again for garbage would delay answers. What the lists took while they
    were read goes back to the system, where the C library can do that (glibc): 25 MB with 10,000 Services.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
