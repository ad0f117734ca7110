# SPDX-License-Identifier: Apache-2.0
"""Mooncake's device allocators, by Causeway."""

from causeway.mooncake.allocator import *  # noqa: F401,F403
from causeway.mooncake.allocator import __all__  # noqa: F401
