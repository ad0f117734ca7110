# SPDX-License-Identifier: Apache-2.0
"""Mooncake's transfer engine, by Causeway."""

from causeway.mooncake.engine import *  # noqa: F401,F403
from causeway.mooncake.engine import __all__  # noqa: F401
