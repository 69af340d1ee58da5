"""Freed memory that is asked for again is not cleared by the system again."""

import statistics
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from assay.harness.core.allocator import keep_freed_memory
{}
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [torch.ones(3_000_000) for _ in range(3)]  # 12 MB each, as activations of 125 small images
    del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*[pages() for _ in range(21)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_that_is_used_again_and_again_is_taken_from_the_system_once() -> None:
    # The heap's layout is drawn at the start, so a later round may make it grow once more; the median one must not.
    command = [sys.executable, "-c", SCRIPT.format("keep_freed_memory()")]
    pages = [int(count) for count in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]
    assert statistics.median(pages) < 100, f"each round cleared {pages} pages; all of its memory is 8,800"
