# SPDX-License-Identifier: Apache-2.0
"""The metadata stores of the plug-in tests/plugin/files.c as fixtures: keys are files of a folder.

`file_store` is one, for both of its schemes in turn; it offers what the servers of stores.py offer, without a server:
kill() takes the folder away, restart() brings it back.
"""

import os
import shutil

import pytest


class FileStore:
    def __init__(self, folder, scheme, plugin):
        self.folder, self.url = folder, f"{scheme}://{folder}"
        self.settings = {"metadata/url": self.url, "plugins/load": str(plugin)}
        self._hidden = folder.with_suffix(".away")
        folder.mkdir()

    def _path(self, key):
        return self.folder / key.replace("/", ",")

    def get(self, key):
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key, value):
        fresh = self.folder / ".fresh"
        fresh.write_bytes(value)
        fresh.rename(self._path(key))

    def delete(self, key):
        self._path(key).unlink(missing_ok=True)

    def keys(self):
        return sorted(name.replace(",", "/") for name in os.listdir(self.folder) if not name.startswith("."))

    def kill(self):
        self.folder.rename(self._hidden)

    def restart(self, lost=False):
        if self._hidden.exists():
            self._hidden.rename(self.folder)
        if lost:
            shutil.rmtree(self.folder)
            self.folder.mkdir()

    def behave(self, name, on=True):
        """"refuse": nobody may do anything; "short": values have at most 1024 bytes."""
        if on:
            (self.folder / f".{name}").touch()
        else:
            (self.folder / f".{name}").unlink()


@pytest.fixture(params=["files", "leased"])
def file_store(request, tmp_path, build_dir):
    return FileStore(tmp_path / "store", request.param, build_dir / "tests/plugin/files.so")
