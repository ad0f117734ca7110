# SPDX-License-Identifier: Apache-2.0
"""First on the path of programs that `python -m causeway.as_mooncake` starts: engine and allocator are here, everything
else of this name comes from an installed Mooncake, if there is one."""

from os.path import isfile as _isfile
from os.path import join as _join
from pkgutil import extend_path as _extend_path

__path__ = _extend_path(__path__, __name__)


def _absent() -> ModuleNotFoundError:
    """A program that was started by another Python than the one that causeway is installed for."""
    import sys

    return ModuleNotFoundError(
        f"No module named 'causeway' in {sys.executable}: install the wheel causeway there, or start the program "
        "with the Python that has it; python -m causeway.as_mooncake made this one look here for mooncake.engine",
        name="causeway",
    )


def __getattr__(name: str) -> object:
    """What the installed package defines in its own __init__.py, which runs when something of it is asked for."""
    installed = [_join(folder, "__init__.py") for folder in __path__[1:]]
    source = next(filter(_isfile, installed), None)
    if name in ("engine", "allocator") or name.startswith("__") or source is None or "_installed" in globals():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path, globals()["_installed"] = list(__path__), source
    try:
        with open(source, "rb") as file:
            exec(compile(file.read(), source, "exec"), globals())
    except BaseException:
        del globals()["_installed"]
        raise
    finally:
        globals()["__path__"] = path
    try:
        return globals()[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
