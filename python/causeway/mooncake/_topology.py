# SPDX-License-Identifier: Apache-2.0
"""The machine in the form of Mooncake's priority matrix: each place of memory with the network devices near it."""

from __future__ import annotations

import json
from pathlib import Path

import causeway

NODES = Path("/sys/devices/system/node")


def matrix(engine: causeway.Engine) -> str:
    """JSON {"cpu:0": [[preferred], [others]], "cuda:0": ...}. The lists name RDMA devices and so are empty until there
    is a transport that uses them."""
    nodes = sorted(int(path.name[4:]) for path in NODES.glob("node[0-9]*") if path.name[4:].isdigit()) or [0]
    places = [f"cpu:{node}" for node in nodes]
    places += [device["location"] for device in engine.topology().get("devices", [])]
    return json.dumps({place: [[], []] for place in places}, indent=1)
