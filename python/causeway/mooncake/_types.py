# SPDX-License-Identifier: Apache-2.0
"""The small classes of Mooncake's module."""

from __future__ import annotations

import enum
from typing import Union

import causeway


class TransferOpcode(enum.IntEnum):
    """The direction of a transfer: from the peer to local memory, or from local memory to the peer."""

    Read = 0
    Write = 1


class TransferNotify:
    """A message to the target of a transfer, which gets it after the data: two texts, which may be set again."""

    __slots__ = ("name", "msg")

    def __init__(self, name: str = "", msg: str = "") -> None:
        self.name = name
        self.msg = msg

    def to_notify(self, segment: causeway.Segment) -> causeway.Notify:
        """The same for a batch; TypeError when one of the two is no text."""
        return causeway.Notify(_text(self.name, "name").decode("utf-8", "replace"), _text(self.msg, "msg"), segment)

    def __repr__(self) -> str:
        return f"TransferNotify(name={self.name!r}, msg={self.msg!r})"


class InnerTransferEngine:
    """What get_engine() returns: it keeps the engine alive, and offers nothing. Mooncake's own C++ Store does not
    accept it, because there is no C++ object behind it."""

    def __init__(self, kept: object) -> None:
        self._kept = kept


def _text(value: Union[str, bytes], what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{what} of a TransferNotify is a str, not {type(value).__name__}")
    return value.encode("utf-8", "surrogateescape")
