# SPDX-License-Identifier: Apache-2.0
"""Names of Mooncake's module that have nothing to do with moving bytes between engines. They can be imported and asked
about; using them says that they are not there."""

from __future__ import annotations

from typing import Any, Callable, List, NoReturn, Tuple


def _absent(what: str) -> NoReturn:
    raise NotImplementedError(
        f"{what} is not part of Causeway; to use Mooncake's own, uninstall causeway-mooncake or start without "
        "causeway.as_mooncake"
    )


class ReceivedData:
    """What an RPC server of Mooncake received. Never made here."""

    def __init__(self) -> None:
        _absent("ReceivedData")


class ReceivedTensor:
    """A tensor that an RPC server of Mooncake received. Never made here."""

    def __init__(self) -> None:
        _absent("ReceivedTensor")


class RpcInterface:
    """Mooncake's RPC between Python programs."""

    def initialize(
        self, listen_address: str = "", thread_count: int = 0, timeout_seconds: int = 30, pool_size: int = 100
    ) -> bool:
        _absent("RpcInterface.initialize")

    def initialize_client(self, pool_size: int = 100, timeout_seconds: int = 30) -> bool:
        _absent("RpcInterface.initialize_client")

    def initialize_server(self, listen_address: str, thread_count: int = 8, timeout_seconds: int = 30) -> bool:
        _absent("RpcInterface.initialize_server")

    def start_server(self) -> bool:
        _absent("RpcInterface.start_server")

    def start_server_async(self) -> bool:
        _absent("RpcInterface.start_server_async")

    def stop_server(self) -> None:
        """Nothing runs, so there is nothing to do."""

    def send_data(self, target_address: str, data: Any) -> int:
        _absent("RpcInterface.send_data")

    def send_data_async(self, target_address: str, data: Any, loop: Any) -> Any:
        _absent("RpcInterface.send_data_async")

    def send_tensor(self, target_address: str, tensor: Any) -> int:
        _absent("RpcInterface.send_tensor")

    def send_tensor_async(self, target_address: str, tensor: Any, loop: Any) -> Any:
        _absent("RpcInterface.send_tensor_async")

    def set_data_receive_callback(self, callback: Callable[[ReceivedData], Any]) -> None:
        _absent("RpcInterface.set_data_receive_callback")

    def set_tensor_receive_callback(self, callback: Callable[[ReceivedTensor], Any]) -> None:
        _absent("RpcInterface.set_tensor_receive_callback")


class CoroRPCInterface(RpcInterface):
    """The older name of RpcInterface."""


def create_rpc_client(local_rank: int = 0, world_size: int = 1) -> RpcInterface:
    """Mooncake's RPC client."""
    _absent("create_rpc_client")


def create_rpc_server(local_rank: int = 0, world_size: int = 1) -> RpcInterface:
    """Mooncake's RPC server."""
    _absent("create_rpc_server")


class SharedSegment:
    """Mooncake's memory that the ranks of one job map together."""

    def __init__(self) -> None:
        _absent("SharedSegment")

    @staticmethod
    def supported(mmap: bool = True, host_register: bool = False) -> bool:
        """False: programs that ask take another way."""
        del mmap, host_register
        return False

    @staticmethod
    def create(
        name: str,
        size: int,
        world_size: int,
        rank_id: int,
        owner_rank: int = 0,
        device_id: int = 0,
        mmap: bool = True,
        host_register: bool = False,
    ) -> Tuple["SharedSegment", bytes]:
        """Raises NotImplementedError; supported() says so before."""
        del name, size, world_size, rank_id, owner_rank, device_id, mmap, host_register
        _absent("SharedSegment.create")

    def complete(self, blobs: List[bytes]) -> None:
        _absent("SharedSegment.complete")

    def ready(self) -> bool:
        _absent("SharedSegment.ready")

    def base_addr(self) -> int:
        _absent("SharedSegment.base_addr")

    def device_addr(self) -> int:
        _absent("SharedSegment.device_addr")

    def size(self) -> int:
        _absent("SharedSegment.size")
