"""What a benchmark was measured on, for its result file."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["commit", "machine"]


def machine() -> dict[str, Any]:
    """Processor, cores, Python."""
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    return {"cpu": next(names, platform.processor()), "cores": os.cpu_count(), "python": platform.python_version()}


def commit() -> str:
    """Of the checkout, "" outside of one."""
    root = Path(__file__).resolve().parent
    git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip()
