"""The GPU that both sides compute on: its clocks, graphs and memory."""

from __future__ import annotations

import gc
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

Step = Callable[[], Any]


class Gpu:
    """A GPU that CuPy and PyTorch share. Raises BackendError, ImportError or RuntimeError if one of them has none."""

    #: What a fresh process chooses it by, and where PyTorch puts its tensors.
    backend, torch_device = "cupy", "cuda"

    def __init__(self) -> None:
        import torch

        from xpcnn.backend import choose

        self.xp = choose(self.backend).xp
        if not torch.cuda.is_available():
            raise RuntimeError(f"PyTorch {torch.__version__} finds no GPU: install a build for CUDA.")
        torch.backends.cudnn.benchmark = True

    def ours(self, call: Step, n: int) -> float:
        """Return the milliseconds of each of n calls, by events on CuPy's current stream."""
        start, end = self.xp.cuda.Event(), self.xp.cuda.Event()
        start.record()
        for _ in range(n):
            call()
        end.record()
        end.synchronize()
        return float(self.xp.cuda.get_elapsed_time(start, end)) / n

    def theirs(self, call: Step, n: int) -> float:
        """Return the milliseconds of each of n calls, by events on PyTorch's current stream."""
        import torch

        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(n):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / n

    def graph(self, work: Step) -> Step:
        """Capture PyTorch's work as one CUDA graph, following its documentation, and return its replay."""
        import torch

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()

        def replay() -> object:
            graph.replay()
            return work  # keeps alive the module and the optimiser, whose memory the graph uses

        return replay

    def compiled(self, module: Any) -> Any:
        """Return a module compiled by PyTorch, which captures graphs itself."""
        import torch

        torch.compiler.reset()  # after a few modules, their code would not be compiled any more
        return torch.compile(module, mode="reduce-overhead")

    def tidy(self) -> None:
        """Wait for all work, and give back the memory that nothing holds any more."""
        import torch

        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        self.xp.get_default_memory_pool().free_all_blocks()

    def describe(self) -> dict[str, str]:
        """Return what the figures were measured on."""
        import torch

        runtime = self.xp.cuda.runtime.runtimeGetVersion()
        return {
            "card": torch.cuda.get_device_name(),
            "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "cuda": f"CUDA {runtime // 1000}.{runtime % 1000 // 10}",
            "cupy": f"CuPy {self.xp.__version__}",
        }


def machine(gpu: Gpu) -> dict[str, str]:
    """Return the date, the GPU, the versions and the commit."""
    import torch

    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **gpu.describe(),
        "torch": f"PyTorch {torch.__version__}",
        "python": f"Python {platform.python_version()}",
        "numpy": f"NumPy {np.__version__}",
        "commit": said("git", "rev-parse", "--short", "HEAD"),
    }


def said(*command: str) -> str:
    """Return the first line that a command prints, or "unknown"."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"
