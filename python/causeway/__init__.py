# SPDX-License-Identifier: Apache-2.0
"""Moves bytes between memories, between processes and machines."""

from causeway._causeway import version

__all__ = ["version"]
