# SPDX-License-Identifier: Apache-2.0
"""Device memory from Python without torch: registered by address, as a tensor with data_ptr(), by DLPack and by CUDA's
array interface; moved; in the order of streams. Runs on emulated Sunrise devices, started by test_python_devices.py.

What is in device memory is written and read by the runtime alone.
"""

import ctypes
import gc
import os

import causeway

LENGTH = 1 << 20
TO_DEVICE, TO_HOST = 1, 2
EXTENSION_DEVICE, CUDA = 12, 2  # of DLPack

folder = os.environ.get("MC_TANGRT_LIB_DIR")
runtime = ctypes.CDLL(f"{folder}/libtangrt_shared.so" if folder else "libtangrt_shared.so")


def call(name, *arguments):
    status = getattr(runtime, name)(*arguments)
    assert status == 0, (name, status)


def handle(name, *arguments):
    made = ctypes.c_void_p()
    call(name, ctypes.byref(made), *arguments)
    return made


class DeviceMemory:
    """As a tensor has it."""

    def __init__(self, device, length=LENGTH, offset=0):
        call("tangSetDevice", device)
        self.device, self.length, self.offset = device, length, offset
        self.base = handle("tangMalloc", ctypes.c_size_t(length))

    def data_ptr(self):
        return self.base.value + self.offset

    @property
    def nbytes(self):
        return self.length - self.offset

    def put(self, data):
        call("tangMemcpy", self.base, data, ctypes.c_size_t(len(data)), TO_DEVICE)

    def get(self):
        data = ctypes.create_string_buffer(self.length)
        call("tangMemcpy", data, self.base, ctypes.c_size_t(self.length), TO_HOST)
        return data.raw


class ManagedTensor(ctypes.Structure):
    """struct DLManagedTensor."""


DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(ManagedTensor))
ManagedTensor._fields_ = [
    ("data", ctypes.c_void_p),
    ("device_type", ctypes.c_int32),
    ("device_id", ctypes.c_int32),
    ("ndim", ctypes.c_int32),
    ("code", ctypes.c_uint8),
    ("bits", ctypes.c_uint8),
    ("lanes", ctypes.c_uint16),
    ("shape", ctypes.POINTER(ctypes.c_int64)),
    ("strides", ctypes.POINTER(ctypes.c_int64)),
    ("byte_offset", ctypes.c_uint64),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", DELETER),
]


class Exchanged:
    """Device memory that is known by DLPack only: half of it, from byte_offset on."""

    def __init__(self, memory, kind=EXTENSION_DEVICE, device=0, strides=None):
        self.memory, self.kind, self.device, self.deleted, self.streams = memory, kind, device, 0, []
        self.shape = (ctypes.c_int64 * 2)(memory.length // 2 // 256, 64)
        self.strides = strides and (ctypes.c_int64 * 2)(*strides)
        self.deleter = DELETER(self.delete)

    def delete(self, tensor):
        self.deleted += 1

    def __dlpack_device__(self):
        return self.kind, self.device

    def __dlpack__(self, *, stream=None):
        self.streams.append(stream)
        self.managed = ManagedTensor(
            self.memory.base, self.kind, self.device, 2, 2, 32, 1, self.shape, self.strides,
            self.memory.length // 2, None, self.deleter,
        )  # fmt: skip
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.managed), b"dltensor", None)


class CudaArray:
    def __init__(self, memory):
        self.__cuda_array_interface__ = {
            "data": (memory.base.value, False), "shape": (memory.length // 4,), "typestr": "<f4", "version": 3,
        }  # fmt: skip


def raises(kind, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(kind)


pattern = bytes(range(251)) * (LENGTH // 251 + 1)
near, far = causeway.Engine(), causeway.Engine()
segment = near.open(far.name)
here, there = DeviceMemory(0), DeviceMemory(1)
here.put(pattern[:LENGTH])

# A tensor, and the region that it becomes.
with near.register(here) as region:
    assert (region.address, region.length, region.location) == (here.base.value, LENGTH, "sunrise:0")
    assert region.kind == causeway.MemoryKind.DEVICE and region.device == 0
    raises(BufferError, memoryview, region)
with near.register(here.base.value, LENGTH, location="sunrise:0") as region:
    assert region.device == 0
raises(causeway.LocationMismatch, near.register, here, location="sunrise:1")

# By DLPack: the half that it says; its owner hears when it is given back.
exchanged = Exchanged(here)
with near.register(exchanged) as region:
    assert (region.address, region.length) == (here.base.value + LENGTH // 2, LENGTH // 2)
    assert exchanged.deleted == 0 and exchanged.streams == [-1]
assert exchanged.deleted == 1
scattered = Exchanged(here, strides=(128, 1))
raises(ValueError, near.register, scattered)
raises(causeway.LocationMismatch, near.register, Exchanged(here, kind=CUDA, device=1))  # what it says must be true
with near.register(CudaArray(here)) as region:
    assert region.length == LENGTH

# From device to device of two engines, whole and by pages; from a device to host memory and back.
source, target = near.register(here), far.register(there)
assert near.write(segment, source, target.address).wait().bytes_completed == LENGTH
assert there.get() == pattern[:LENGTH]
count, size = 64, 4096
left = [source.address + i * size for i in range(count)]
right = [target.address + (count - 1 - i) * size for i in range(count)]
near.write(segment, left, right, size).wait()
moved = there.get()
for i in range(count):
    place = (count - 1 - i) * size
    assert moved[place : place + size] == pattern[i * size : (i + 1) * size]
back = near.allocate(LENGTH)
near.read(segment, back, target.address).wait()
assert bytes(memoryview(back)) == moved
assert near.write(segment, here, target.address).wait().bytes_completed == LENGTH  # the tensor itself as local

# In the order of streams. A memset comes late (the test says so to the emulator): only a prerequisite makes it be seen.
call("tangSetDevice", 0)
stream = handle("tangStreamCreateWithFlags", 1)
event = handle("tangEventCreate")
for value, after in (
    (1, [("sunrise:0", stream.value, "stream")]),
    (2, [("sunrise:0", event.value, "event")]),
    (3, None),
):
    call("tangMemsetAsync", here.base, value, ctypes.c_size_t(LENGTH), stream)
    call("tangEventRecord", event, stream)
    near.write(segment, source, target.address, device_after=after).wait()
    assert (there.get() == bytes([value]) * LENGTH) == bool(after), value
    call("tangStreamSynchronize", stream)
counter = near.counter()
batch = near.write(segment, source, target.address, counter=(counter, 1))
call("tangSetDevice", 0)
batch.fence("sunrise:0", stream.value)
call("tangMemsetAsync", here.base, 9, ctypes.c_size_t(LENGTH), stream)
counter.add()
batch.wait()
call("tangStreamSynchronize", stream)
assert there.get() == bytes([3]) * LENGTH and here.get() == bytes([9]) * LENGTH

# Memory of the engine on a device.
with near.allocate(LENGTH, location="sunrise:1") as region:
    assert region.kind == causeway.MemoryKind.DEVICE and region.device == 1
    near.read(segment, region, target.address).wait()
    raises(BufferError, memoryview, region)
raises(causeway.Error, near.allocate, LENGTH, location="sunrise:7")

del source
near.close()
far.close()
gc.collect()
assert exchanged.deleted == 1 and scattered.deleted <= 1
print("ok")
