"""Full precision for numbers that are reported, whatever the caller allowed for training."""

import contextlib
import functools
import threading
from collections.abc import Iterator

import torch
from threadpoolctl import ThreadpoolController


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Context manager and decorator: no autocast; float32 products and convolutions without TF32 or bfloat16.

    The caller's settings are restored at the end. A generator function must use it as a context manager inside, because
    its body runs after the call.
    """
    before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    # Each change of this setting costs time, and most callers never change it.
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    if convolutions:
        torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)
        if convolutions:
            torch.backends.cudnn.allow_tf32 = True


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Context in which SciPy and NumPy compute on one thread: the same bytes on every machine, no threads that spin.

    Threads of Python take turns in it. The limit is the process's: one that leaves would lift it for the others, and
    threadpoolctl ignores whoever comes second.
    """
    with _TURN, _blas().limit(limits=1):
        yield


_TURN = threading.RLock()


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
