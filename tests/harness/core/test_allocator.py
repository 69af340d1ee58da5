"""Freed memory that is asked for again is not cleared by the system again."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from assay.harness.core.allocator import keep_freed_memory
{}
def rounds(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        parts = [torch.ones(3_000_000) for _ in range(3)]  # 12 MB each, as activations of 125 small images
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
rounds(3)
print(rounds(20))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_that_is_used_again_and_again_is_taken_from_the_system_once() -> None:
    command = [sys.executable, "-c", SCRIPT.format("keep_freed_memory()")]
    faults = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert faults < 2_000, f"{faults} pages were cleared; one round has 8,800 of them"
