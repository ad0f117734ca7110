# SPDX-License-Identifier: Apache-2.0
"""Mooncake's device allocators, by Causeway."""

try:
    from causeway.mooncake.allocator import *  # noqa: F401,F403
    from causeway.mooncake.allocator import __all__  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "causeway":
        raise
    from .. import _absent

    raise _absent() from None
