# SPDX-License-Identifier: Apache-2.0
"""Mooncake's Python names over Causeway: `causeway.mooncake.engine` and `causeway.mooncake.allocator`.

A program that imports `mooncake.engine` gets these when the distribution causeway-mooncake is installed, or when it is
started by `python -m causeway.as_mooncake COMMAND`.
"""
