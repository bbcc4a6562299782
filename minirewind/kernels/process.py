"""Settings of the whole process, made once, when a CPU backend is first asked for; never at import."""

import functools


@functools.cache
def prepare() -> None:
    """BLAS on one thread: the same bits whatever the machine, and no quarrel with the kernels' own threads."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(1, user_api="blas")
