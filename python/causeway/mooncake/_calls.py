# SPDX-License-Identifier: Apache-2.0
"""How calls answer: failures become the numbers that Mooncake's calls return, and are told to the operator."""

from __future__ import annotations

import functools
from typing import Any, Callable, Optional, Sequence, TypeVar, cast

import causeway
from causeway import _causeway

from ._peers import UnknownHint
from ._report import failed

Call = TypeVar("Call", bound=Callable[..., Any])


class NotInitialized(RuntimeError):
    """A call came before initialize(), or after one that failed."""


# What a call answers for, unless it is a wrong type or the hint.
FAILURES = (causeway.Error, NotInitialized, ValueError, OverflowError)


def code(error: BaseException) -> int:
    """The negative number of Mooncake for a failure."""
    return _causeway.mooncake_code(error.status) if isinstance(error, causeway.Error) else -1


def answers(failure: Any) -> Callable[[Call], Call]:
    """A method that answers a failure with a value, or with Mooncake's number for it when `failure` is code()."""

    def decorate(method: Call) -> Call:
        @functools.wraps(method)
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            try:
                return method(self, *arguments, **named)
            except UnknownHint:
                raise
            except FAILURES as error:
                if not isinstance(error, causeway.Closed):  # which happens when the interpreter ends, and only then
                    failed((method.__name__, type(error), _first_text(arguments)), f"{method.__name__}: {error}")
                return failure(error) if callable(failure) else failure

        return cast(Call, call)

    return decorate


def _first_text(arguments: Sequence[Any]) -> Optional[str]:
    """The peer's name, so that the failures of one peer do not hide those of another."""
    return arguments[0] if arguments and isinstance(arguments[0], str) else None
