# SPDX-License-Identifier: Apache-2.0
"""The console scripts that Mooncake's wheel has, over Causeway's own programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Dict, List

from causeway import _programs

Matrix = Dict[str, List[List[str]]]


def transfer_engine_bench() -> None:
    """Becomes the bundled program of that name."""
    _programs.run("transfer_engine_bench")


def http_metadata_server() -> None:
    """mooncake_http_metadata_server: becomes `causeway metadata-server`, which takes the other options too."""
    parser = argparse.ArgumentParser(
        prog="mooncake_http_metadata_server",
        description="The HTTP metadata server, by Causeway. Other options are those of `causeway metadata-server`.",
    )
    parser.add_argument("--port", type=int, default=8080, help="port to listen on (default: 8080)")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: 0.0.0.0)")
    parser.add_argument(
        "--log-level",
        choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        default="INFO",
        help="accepted; requests are counted in /metrics, not logged",
    )
    options, rest = parser.parse_known_args()
    program = _programs.path("causeway")
    os.execv(program, [program, "metadata-server", f"--host={options.host}", f"--port={options.port}", *rest])


# ------------------------------------------------------------------------------------------------ topology


def _read_custom(path: str) -> Matrix:
    try:
        with open(path, encoding="utf-8") as file:
            matrix = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"transfer_engine_topology_dump: {path}: {error}")
    if not isinstance(matrix, dict):
        sys.exit(f"transfer_engine_topology_dump: {path}: a JSON object is needed, of places and their devices")
    return matrix


def _only(matrix: Matrix, names: List[str]) -> Matrix:
    return {
        place: [[name for name in devices if name in names] for devices in ranks] for place, ranks in matrix.items()
    }


def _as_tent(matrix: Matrix) -> Dict[str, Any]:
    """The same as lists of devices and memories with three ranks of distance."""
    names = sorted({name for ranks in matrix.values() for devices in ranks for name in devices})
    memories = []
    for place, ranks in matrix.items():
        padded = [*ranks, [], [], []][:3]
        memories.append({"name": place, **{f"rank{rank}": devices for rank, devices in enumerate(padded)}})
    return {"nics": [{"name": name} for name in names], "mems": memories}


def topology_dump() -> int:
    """transfer_engine_topology_dump: prints `Local topology [backend/mode]: JSON`."""
    parser = argparse.ArgumentParser(
        prog="transfer_engine_topology_dump",
        description="The places of memory of this machine, with devices near them.",
    )
    parser.add_argument("--device-name", default="", help="only these RDMA devices, a comma list")
    parser.add_argument("--backend", choices=["auto", "te", "tent"], default="auto", help="form of the output")
    parser.add_argument("--use-custom-topo", action="store_true", help="print the file that MC_CUSTOM_TOPO_JSON names")
    parser.add_argument("--custom-topo-json", help="print this file, a priority matrix")
    options = parser.parse_args()
    backend = options.backend
    if backend == "auto":
        backend = "tent" if os.environ.get("MC_USE_TENT") or os.environ.get("MC_USE_TEV1") else "te"
    custom = options.custom_topo_json or (options.use_custom_topo and os.environ.get("MC_CUSTOM_TOPO_JSON"))
    if custom:
        matrix = _read_custom(custom)
    else:
        from causeway.mooncake.engine import TransferEngine

        matrix = json.loads(TransferEngine().get_local_topology())
    if options.device_name:
        matrix = _only(matrix, [name.strip() for name in options.device_name.split(",")])
    shown = _as_tent(matrix) if backend == "tent" else matrix
    print(f"Local topology [{backend}/{'custom' if custom else 'discover'}]: {json.dumps(shown, indent=1)}")
    return 0
