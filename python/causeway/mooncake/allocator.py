# SPDX-License-Identifier: Apache-2.0
"""`mooncake.allocator`: device memory for torch's memory pools, by nvlink_allocator.so beside this file.

torch is imported when an allocator is asked for, not before. Programs without torch call the symbols of the library
themselves; `library_path()` says where it is.
"""

from __future__ import annotations

import ctypes
import enum
import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar, Dict, Optional

__all__ = ["BarexAllocator", "MemoryBackend", "NVLinkAllocator", "library_path"]


class MemoryBackend(enum.IntEnum):
    """Where the memory of nvlink_allocator.so comes from."""

    USE_CUDAMALLOC = 0
    """the runtime's own allocation; other processes of this machine can open it"""
    USE_CUMEMCREATE = 1
    """fabric memory, which other machines of an NVLink domain can map; only with MC_FORCE_MNNVL"""
    UNKNOWN = -1
    """there is no such device"""
    UNSUPPORTED = -2
    """no device runtime is present"""


def library_path() -> str:
    """Where nvlink_allocator.so is; ImportError when this installation has none."""
    path = Path(__file__).absolute().parent / "nvlink_allocator.so"
    if not path.is_file():
        raise ImportError(f"{path} is missing: this installation of causeway has no device allocator")
    return str(path)


def _device_index(device: Any) -> int:
    """Of a torch.device, a text such as "cuda:1", a number or None: the current one."""
    if isinstance(device, int):
        return device
    if isinstance(device, str):
        return int(device.rpartition(":")[2]) if ":" in device else 0
    index = getattr(device, "index", None)
    return 0 if index is None else int(index)


class _Pluggable:
    """Allocators by device, made once: torch keeps using one as long as memory of it lives."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _made: ClassVar[Dict[Any, Any]] = {}

    @classmethod
    def _get(cls, path: str, allocate: str, free: str, device: Any) -> Any:
        memory = importlib.import_module("torch.cuda.memory")
        key = (path, _device_index(device))
        with cls._lock:
            if key not in cls._made:
                cls._made[key] = memory.CUDAPluggableAllocator(path, allocate, free)
            return cls._made[key]


class NVLinkAllocator(_Pluggable):
    """Memory that engines of other processes reach without a copy through host memory."""

    @classmethod
    def get_allocator(cls, device: Any) -> Any:
        """The torch.cuda.memory.CUDAPluggableAllocator for a device; `torch.cuda.MemPool(it.allocator())` uses it.
        Raises ImportError without torch or without the library."""
        return cls._get(library_path(), "mc_allocator_malloc", "mc_allocator_free", device)

    @classmethod
    def detect_mem_backend(cls, device: Any = None) -> MemoryBackend:
        """Where memory of a device comes from; None = torch's current one when torch is in use, else the first."""
        if device is None:
            torch: Any = sys.modules.get("torch")
            initialized = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
            device = torch.cuda.current_device() if initialized else 0
        probe = ctypes.CDLL(library_path()).mc_allocator_probe
        probe.argtypes, probe.restype = [ctypes.c_int], ctypes.c_int
        try:
            return MemoryBackend(probe(_device_index(device)))
        except ValueError:
            return MemoryBackend.UNKNOWN


class BarexAllocator(_Pluggable):
    """Memory of Alibaba's barex library (libaccl_barex.so), where that is installed."""

    _FOLDERS = ("/usr/lib", "/usr/lib64", os.path.dirname(os.path.abspath(__file__)))

    @classmethod
    def get_allocator(cls, device: Any) -> Any:
        """As NVLinkAllocator.get_allocator(); ImportError where the library is not installed."""
        path: Optional[str] = next(
            (
                file
                for file in (os.path.join(folder, "libaccl_barex.so") for folder in cls._FOLDERS)
                if os.path.exists(file)
            ),
            None,
        )
        if path is None:
            raise ImportError(f"libaccl_barex.so is not in {', '.join(cls._FOLDERS)}")
        return cls._get(path, "u2mm_alloc_wrapper_with_stream", "u2mm_free_wrapper_with_stream", device)
