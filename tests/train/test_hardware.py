import contextlib
import types

import numpy as np
import pyarrow as pa
import pytest
import torch

from corpusmill.schemas.errors import UsageError
from corpusmill.train import hardware
from corpusmill.train.hardware import (
    describe_device,
    out_of_memory_message,
    peak_flops,
    pick_device,
    pick_precision,
    set_threads,
)

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


@pytest.fixture
def machine(monkeypatch):
    """A machine with as many GPUs of one kind as asked for, as far as torch can tell."""

    def build(n_gpus=0, *, name="NVIDIA L4", bf16=True, mps=False):
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: bf16)
        monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
        properties = types.SimpleNamespace(name=name, total_memory=22 * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        return monkeypatch

    return build


def capabilities(monkeypatch, **flags):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", "cpu_name": "C", **flags})


def test_auto_takes_the_best_device_there_is(machine):
    machine(n_gpus=2, mps=True)
    assert pick_device("auto") == GPU
    machine(n_gpus=0, mps=True)
    assert pick_device("auto") == torch.device("mps")
    machine()
    assert pick_device("auto") == CPU


def test_the_cpu_can_always_be_asked_for(machine):
    machine(n_gpus=1)
    assert pick_device("cpu") == CPU


def test_each_process_of_torchrun_has_its_own_gpu(machine):
    monkeypatch = machine(n_gpus=2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="process 2 of this machine has no GPU, 2 visible: .*--nproc-per-node 2"):
        pick_device("cuda")


def test_no_gpu_says_which_torch_is_installed(machine):
    monkeypatch = machine()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UsageError, match=r"torch \S+ is built for CPUs only; install the CUDA build, .*device=cpu"):
        pick_device("cuda")


def test_a_gpu_that_is_hidden_is_not_blamed_on_torch(machine):
    monkeypatch = machine()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UsageError, match=r"built for CUDA 13.0, but sees no GPU \(CUDA_VISIBLE_DEVICES is ''\)"):
        pick_device("cuda")


def test_other_names_are_refused(machine):
    machine()
    with pytest.raises(UsageError, match="device mps is not available: it takes an Apple GPU"):
        pick_device("mps")
    with pytest.raises(UsageError, match="there is no device 'gpu': give auto, cpu, cuda or mps"):
        pick_device("gpu")


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_bf16_on_cpus_that_multiply_in_it(monkeypatch, flag):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    capabilities(monkeypatch, **{flag: True})
    assert pick_precision("auto", CPU) == pick_precision("bf16", CPU) == "bf16"
    assert pick_precision("fp32", CPU) == "fp32"


def test_bf16_is_not_emulated(monkeypatch):
    capabilities(monkeypatch, avx512_f=True, avx512_bf16=False)
    assert pick_precision("auto", CPU) == "fp32"
    with pytest.raises(UsageError, match=r"bf16 is not possible on cpu \(C, 1 thread\): .*avx512_bf16.*precision=fp32"):
        pick_precision("bf16", CPU)


def test_bf16_takes_the_kernels_of_onednn(monkeypatch):
    capabilities(monkeypatch, bf16=True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pick_precision("auto", CPU) == "fp32"


def test_bf16_on_gpus(machine):
    machine(n_gpus=1)
    assert pick_precision("auto", GPU) == "bf16"
    machine(n_gpus=1, name="Tesla V100-SXM2-16GB", bf16=False)
    assert pick_precision("auto", GPU) == "fp32"
    with pytest.raises(UsageError, match=r"cuda:0 \(Tesla V100-SXM2-16GB, 22 GiB\): it takes compute capability 8.0"):
        pick_precision("bf16", GPU)


@pytest.mark.parametrize(("is_new", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bf16_on_apple_gpus(monkeypatch, is_new, precision):
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: is_new)
    assert pick_precision("auto", torch.device("mps")) == precision


def test_other_precisions_are_refused():
    with pytest.raises(UsageError, match="there is no precision 'fp16': give auto, fp32 or bf16"):
        pick_precision("fp16", CPU)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 3090", 71.0),
    ],
)
def test_peak_of_known_gpus(machine, name, tflops):
    machine(n_gpus=1, name=name)
    assert peak_flops(GPU, "bf16") == tflops * 1e12


@pytest.mark.parametrize(
    ("name", "precision"),
    [("NVIDIA L40", "bf16"), ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16"), ("NVIDIA GH200 480GB", "bf16"), ("NVIDIA L4", "fp32")],
)  # fmt: skip
def test_peak_of_others_is_measured(machine, name, precision):
    machine(n_gpus=1, name=name).setattr(hardware, "_measured_flops", lambda device, precision, n_threads: 7.0)
    assert peak_flops(GPU, precision) == 7.0


def test_peak_of_this_cpu_is_measured_once(monkeypatch):
    monkeypatch.setattr(hardware, "_MEASURE_SECONDS", 0.02)
    hardware._measured_flops.cache_clear()
    first = peak_flops(CPU, "fp32")
    assert 1e8 < first < 1e14
    assert peak_flops(CPU, "fp32") == first
    hardware._measured_flops.cache_clear()


def test_devices_are_described(machine):
    machine(n_gpus=1)
    assert describe_device(GPU) == "cuda:0 (NVIDIA L4, 22 GiB)"
    assert describe_device(torch.device("mps")) == "mps (Apple GPU)"
    assert describe_device(CPU).startswith("cpu (")
    assert describe_device(CPU).endswith(", 1 thread)")


def test_threads():
    before = torch.get_num_threads()
    try:
        assert set_threads(before + 1) == torch.get_num_threads() == before + 1
        assert set_threads(None) == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "fail",
    [
        lambda: torch.empty(1 << 50, dtype=torch.uint8),
        lambda: np.empty(1 << 50, dtype=np.uint8),
        lambda: pa.allocate_buffer(1 << 60),
    ],
    ids=["torch", "numpy", "arrow"],
)
def test_full_memory_is_known_by_what_really_happens(fail):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        fail()
    assert "memory is full" in out_of_memory_message(caught.value, micro_batch=8, sequence_length=512)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.AcceleratorError("CUDA error: out of memory"),
    ],
)
def test_full_memory_of_devices(error):
    assert out_of_memory_message(error, micro_batch=8, sequence_length=512) == (
        "memory is full; try, in this order: optim.micro_batch=4 instead of 8 (same result, a little slower); "
        "data.sequence_length=256 instead of 512 (another run); a smaller model.preset"
    )


def test_a_single_sequence_cannot_be_split():
    message = out_of_memory_message(MemoryError(), micro_batch=1, sequence_length=512)
    assert "micro_batch" not in message
    assert "data.sequence_length=256" in message


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), KeyboardInterrupt()])  # fmt: skip
def test_other_errors_are_not_ours(error):
    assert out_of_memory_message(error, micro_batch=8, sequence_length=512) is None
