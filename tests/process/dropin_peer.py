# SPDX-License-Identifier: Apache-2.0
"""As wheel_peer.py, with memory of emulated Sunrise devices, from the allocator symbols of mooncake.allocator. What is
in it is written and read by the Tang runtime alone, so that the engine cannot vouch for itself."""

import ctypes
import os

import wheel_peer
from mooncake import allocator
from peer import pattern

TO_DEVICE, FROM_DEVICE = 1, 2


class DevicePeer(wheel_peer.Wheel):
    def __init__(self):
        super().__init__()
        self.symbols = ctypes.CDLL(allocator.library_path())
        self.symbols.mc_allocator_malloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        self.symbols.mc_allocator_malloc.restype = ctypes.c_void_p
        self.symbols.mc_allocator_free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        self.tang = ctypes.CDLL(os.path.join(os.environ["MC_TANGRT_LIB_DIR"], "libtangrt_shared.so"))
        self.tang.tangMemcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self.tang.tangStreamCreate.argtypes = [ctypes.c_void_p]
        self.tang.tangStreamSynchronize.argtypes = [ctypes.c_void_p]
        self.tang.tangStreamQuery.argtypes = [ctypes.c_void_p]
        self.devices = {}

    def allocate(self, memory, length, device):
        address = self.symbols.mc_allocator_malloc(length, device, None) or 0
        self.memory[memory] = (None, address, length)
        self.devices[memory] = device
        return {"address": address}

    def free(self, memory):
        _, address, length = self.memory.pop(memory)
        self.symbols.mc_allocator_free(address, length, self.devices.pop(memory), None)
        return {}

    def probe_backend(self, device):
        return {"result": int(allocator.NVLinkAllocator.detect_mem_backend(device))}

    def use_device(self, device):
        return {"result": self.tang.tangSetDevice(device)}

    def current_device(self):
        device = ctypes.c_int(-1)
        assert self.tang.tangGetDevice(ctypes.byref(device)) == 0
        return {"device": device.value}

    def _copy(self, memory, to, source, length, kind):
        before = self.current_device()["device"]
        self.tang.tangSetDevice(self.devices[memory])
        result = self.tang.tangMemcpy(to, source, length, kind)
        self.tang.tangSetDevice(before)
        assert result == 0, result

    def fill(self, memory, seed, offset=0, length=None):
        if memory not in self.devices:
            return super().fill(memory, seed, offset, length)
        _, address, whole = self.memory[memory]
        data = pattern(seed, whole - offset if length is None else length)
        self._copy(memory, address + offset, data, len(data), TO_DEVICE)
        return {}

    def compare(self, memory, seed, offset=0, length=None, position=0):
        if memory not in self.devices:
            return super().compare(memory, seed, offset, length, position)
        _, address, whole = self.memory[memory]
        length = whole - offset if length is None else length
        found = ctypes.create_string_buffer(length)
        self._copy(memory, found, address + offset, length, FROM_DEVICE)
        wanted = pattern(seed, length, position)
        different = [i for i, (a, b) in enumerate(zip(found.raw, wanted)) if a != b] if found.raw != wanted else []
        return {"different": len(different), "first": different[0] if different else 0}

    def bytes_through_buffer(self, memory, text):
        """Text in and out of device memory by the engine's own calls."""
        address = self.memory[memory][1]
        data = text.encode()
        result = self.engine.write_bytes_to_buffer(address + 3, data, len(data))
        return {"result": result, "text": self.engine.read_bytes_from_buffer(address + 3, len(data)).decode()}

    def on_stream(self, op, peer, memory, remote, length):
        """A transfer that a stream of the memory's device waits for; only the stream tells when it is over."""
        before = self.current_device()["device"]
        self.tang.tangSetDevice(self.devices[memory])
        stream = ctypes.c_void_p()
        assert self.tang.tangStreamCreate(ctypes.byref(stream)) == 0
        self.tang.tangSetDevice(before)
        call = self.engine.transfer_write_on_cuda if op == "write" else self.engine.transfer_read_on_cuda
        call(peer, self.memory[memory][1], remote, length, stream.value)
        return {"result": self.tang.tangStreamSynchronize(stream)}


if __name__ == "__main__":
    wheel_peer.main(DevicePeer())
