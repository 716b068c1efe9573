"""What the machine has: device, precision, threads, peak speed, and what to do when its memory is full."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from corpusmill.schemas.errors import CorpusmillError, UsageError

__all__ = [
    "Precision",
    "describe_device",
    "explained_out_of_memory",
    "free_bytes",
    "out_of_memory_message",
    "peak_flops",
    "pick_device",
    "pick_precision",
    "set_threads",
]

Precision = Literal["fp32", "bf16"]

_MEASURE_SECONDS = 0.2

_BF16_TFLOPS = (
    (r"B200\b", 2250.0),
    (r"H200 NVL", 835.5),
    (r"H200\b", 989.5),
    (r"H100 PCIe", 756.0),
    (r"H100 NVL", 835.5),
    (r"H100\b", 989.5),
    (r"A100\b", 312.0),
    (r"L40S\b", 362.0),
    (r"L4\b", 121.0),
    (r"RTX 4090(?! D| Laptop)", 165.2),
    (r"RTX 3090(?! Ti)", 71.0),
)
"""Dense bf16 with fp32 sums, from NVIDIA's data sheets (half of their sparse figures) and white papers."""


def pick_device(name: str) -> torch.device:
    """The device for "auto" (CUDA, else MPS, else CPU), "cuda", "mps" or "cpu".

    Under torchrun, each process of a machine gets the GPU that LOCAL_RANK numbers. ROCm GPUs count as "cuda".

    Raises:
        UsageError: the device is not there, or torchrun started more processes than there are GPUs.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UsageError(f"device mps is not available: it takes an Apple GPU and macOS 14; {_installed()}")
        return torch.device("mps")
    if name != "cuda":
        raise UsageError(f"there is no device {name!r}: give auto, cpu, cuda or mps")
    if not torch.cuda.is_available():
        raise UsageError(f"device cuda is not available: {_why_no_cuda()}; or give device=cpu")
    index, n_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= n_gpus:
        raise UsageError(
            f"process {index} of this machine has no GPU, {n_gpus} visible: "
            f"start torchrun with --nproc-per-node {n_gpus}, or give device=cpu"
        )
    return torch.device("cuda", index)


def pick_precision(name: str, device: torch.device) -> Precision:
    """The precision of matrix products for "auto" (bf16 where `device` computes in it), "fp32" or "bf16".

    bf16 that is only emulated is slower than fp32, so it is refused.

    Raises:
        UsageError: bf16 was asked for, and the hardware does not have it.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise UsageError(f"there is no precision {name!r}: give auto, fp32 or bf16")
    if name == "fp32":
        return "fp32"
    missing = _why_no_bf16(device)
    if missing is None:
        return "bf16"
    if name == "bf16":
        raise UsageError(f"precision bf16 is not possible on {describe_device(device)}: {missing}; give precision=fp32")
    return "fp32"


def peak_flops(device: torch.device, precision: Precision) -> float:
    """Floating-point operations a second that `device` can do at most, the denominator of the share of peak (MFU).

    From the data sheet for bf16 on known GPUs; else the best rate of a square matrix product, timed for 0.2 s once
    a process, with the present number of threads and the present choice of TF32.
    """
    if device.type == "cuda" and precision == "bf16":
        name = torch.cuda.get_device_name(device)
        for pattern, tflops in _BF16_TFLOPS:
            if re.search(rf"\b{pattern}", name):
                return tflops * 1e12
    return _measured_flops(device, precision, torch.get_num_threads())


def describe_device(device: torch.device) -> str:
    """One line for people: `cuda:0 (NVIDIA L4, 22 GiB)`, `cpu (AMD EPYC, 2 threads)`."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    if device.type == "mps":
        return "mps (Apple GPU)"
    name = str(torch.cpu.get_capabilities().get("cpu_name") or torch.cpu.get_capabilities()["architecture"])
    n_threads = torch.get_num_threads()
    return f"cpu ({name}, {n_threads} thread{'s' if n_threads > 1 else ''})"


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where it cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in os.sysconf_names:
        meminfo = Path("/proc/meminfo")
        if meminfo.exists():  # what is used as a cache of files is free, too
            found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
            if found:
                return int(found[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def set_threads(n: int | None) -> int:
    """Let torch compute with `n` >= 1 CPU threads; None leaves its choice. Returns the number in force."""
    if n is not None:
        torch.set_num_threads(n)
    return torch.get_num_threads()


def out_of_memory_message(error: BaseException, *, micro_batch: int, sequence_length: int) -> str | None:
    """What to turn when memory is full; None when `error` is something else.

    Args:
        error: what was caught.
        micro_batch: sequences that a device held at once.
        sequence_length: tokens of each.
    """
    text = str(error).lower()
    is_full = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in text for sign in ("out of memory", "can't allocate memory", "cublas_status_alloc_failed"))
    )
    if not is_full:
        return None
    fixes = [
        f"data.sequence_length={sequence_length // 2} instead of {sequence_length} (another run)",
        "a smaller model.preset",
    ]
    if micro_batch > 1:
        fixes.insert(0, f"optim.micro_batch={micro_batch // 2} instead of {micro_batch} (same result, a little slower)")
    return f"memory is full; try, in this order: {'; '.join(fixes)}"


@contextmanager
def explained_out_of_memory(micro_batch: int, sequence_length: int) -> Iterator[None]:
    """Turn a full memory in the block into a CorpusmillError with `out_of_memory_message`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        message = out_of_memory_message(error, micro_batch=micro_batch, sequence_length=sequence_length)
        if message is None:
            raise
        raise CorpusmillError(message) from error


def _installed() -> str:
    cuda, rocm = torch.version.cuda, torch.version.hip
    built_for = f"CUDA {cuda}" if cuda else f"ROCm {rocm}" if rocm else "CPUs only"
    return f"torch {torch.__version__} is built for {built_for}"


def _why_no_cuda() -> str:
    if not (torch.version.cuda or torch.version.hip):
        return f"{_installed()}; install the CUDA build, see https://pytorch.org/get-started/locally"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = f" (CUDA_VISIBLE_DEVICES is {visible!r})" if visible is not None else ""
    return f"{_installed()}, but sees no GPU{hidden}; see what nvidia-smi says of the driver"


def _why_no_bf16(device: torch.device) -> str | None:
    if device.type == "cuda":
        with torch.cuda.device(device):
            has = torch.cuda.is_bf16_supported(including_emulation=False)
        return None if has else "it takes compute capability 8.0 (A100, RTX 30 or later)"
    if device.type == "mps":
        return None if torch.backends.mps.is_macos_or_newer(14, 0) else "it takes macOS 14"
    # oneDNN has the kernels: without it (some ARM builds) torch multiplies bf16 element by element.
    capabilities = torch.cpu.get_capabilities()
    has_kernels = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if has_kernels and any(capabilities.get(k) for k in ("avx512_bf16", "amx_bf16", "bf16")):
        return None
    return "it takes a CPU with avx512_bf16, AMX or ARM bf16"


@cache
def _measured_flops(device: torch.device, precision: Precision, n_threads: int) -> float:
    """Of a product of two square matrices; `n_threads` only tells results apart."""
    size = 1024 if device.type == "cpu" else 4096
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    generator = torch.Generator().manual_seed(0)  # of constants, some GPUs multiply faster
    matrix = torch.randn(size, size, generator=generator).to(device, dtype)
    for _ in range(2):  # the first product loads the kernels
        _wait(matrix @ matrix)
    best = float("inf")
    end = time.perf_counter() + _MEASURE_SECONDS
    while (start := time.perf_counter()) < end:
        _wait(matrix @ matrix)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _wait(product: torch.Tensor) -> None:
    """Until the product is there: devices compute behind our back."""
    product[0, 0].item()
