"""Room for as many connections as a run may need."""

import resource

from muster.base.errors import Invalid


def ensure_open_files(needed: int) -> None:
    """Raise this process's limit of open files if it must be. Raises Invalid if it may not be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError) as error:
        text = f"{needed} open files are needed and {hard} are allowed: lower the concurrency, or raise ulimit -n"
        raise Invalid(text) from error
