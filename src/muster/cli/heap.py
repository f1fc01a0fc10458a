"""The C library's heap of a process with threads that take turns (mallopt(3)); another one than glibc's is left alone.

glibc gives each thread a heap of its own against contention, and keeps what is freed in each. Here nearly all threads
wait for the interpreter's lock or the database's, so that heaps would only multiply what is kept. And it comes to keep
what is freed of large blocks, once it has seen one: hashing a password takes 19 MiB. What is freed between blocks that
are in use it keeps in any case, and a burst leaves much of that.
"""

import ctypes

# From malloc.h.
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE = 1 << 20


def share() -> bool:
    """All threads use one heap from now on, and large blocks go back to the kernel when they are freed.

    To be called before there are threads. Returns whether that could be done.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_M_ARENA_MAX, 1) and library.mallopt(_M_MMAP_THRESHOLD, _LARGE))


async def give_back() -> None:
    """Pages of the heap that nobody uses go back to the kernel (malloc_trim(3)). A millisecond after a burst of
    thousands of requests, and next to nothing when there is nothing to give."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
