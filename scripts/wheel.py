#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes both Python distributions as wheels in build/wheel/dist; `./do wheel` is the front door.

The wheel of "causeway" is compiled by zig's C compiler against the symbols of glibc 2.28 (cmake/zig.cmake), in
build/wheel/cmake, so that a second run compiles only what changed. The tools come from PyPI into
${XDG_CACHE_HOME:-~/.cache}/causeway/wheel-venv. At the end every ELF file of the wheel is looked at: what it needs, and
from which glibc on.
"""

import argparse
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/wheel"
DIST = BUILD / "dist"
GLIBC = (2, 28)
# The newest at the time of writing; a newer zig may bring another clang and other warnings.
TOOLS = ["scikit-build-core==1.1.2", "hatchling==1.33.0", "ziglang==0.17.0", "wheel==0.48.0"]
# Of other projects, where the system's compiler finds them; of a header in a folder, the folder.
HEADERS = ["json-c/json.h", "curl/curl.h", "hiredis/hiredis.h", "microhttpd.h"]
ARCHIVES = ["libjson-c.a"]
# json-c's own licence asks to come with every copy.
LICENCE = Path("/usr/share/doc/libjson-c-dev/copyright")
# Part of the C library, or of the wheel itself.
NEEDED = re.compile(r"(libc|libm|libdl|libpthread|librt)\.so\.\d+|ld-linux[\w-]*\.so\.\d+")


class Failure(Exception):
    """A line that says what to do."""


def execute(command, what, **options):
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", check=False, **options,
    )
    if done.returncode:
        log = BUILD / "failed.log"
        log.write_text(done.stdout)
        raise Failure(f"{what} failed:\n" + "\n".join(done.stdout.splitlines()[-25:]) + f"\nThe whole output: {log}")
    return done.stdout


def cache_folder():
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "causeway"
    path.mkdir(parents=True, exist_ok=True)
    return path


def tools_python():
    """The Python of an environment with TOOLS, made when it is not there."""
    cache = cache_folder()
    environment = cache / "wheel-venv"
    python, made = environment / "bin/python", environment / "made-of.txt"
    wanted = "\n".join(TOOLS)
    with open(cache / "wheel-venv.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != wanted:
            execute([sys.executable, "-m", "venv", "--clear", environment], "venv (Debian: python3-venv)")
            execute([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *TOOLS], "pip install")
            made.write_text(wanted)
    return python


def compiler_says(*flags):
    return execute(["cc", *flags], "cc")


def include_folders():
    """Where the system's compiler looks for headers."""
    _, _, listed = compiler_says("-E", "-v", "-x", "c", "-").partition("search starts here:\n")
    return [Path(line.strip()) for line in listed.partition("End of search")[0].splitlines() if line.startswith(" ")]


def stage(folder):
    """Copies the headers and archives of other projects, without those of the system's C library. Their times stay, so
    that nothing is compiled again for it."""
    include, library = folder / "include", folder / "lib"
    shutil.rmtree(folder, ignore_errors=True)
    include.mkdir(parents=True)
    library.mkdir()
    for header in HEADERS:
        found = next((path for path in include_folders() if (path / header).exists()), None)
        if not found:
            raise Failure(f"{header} is missing; on Debian ./do wheel installs it")
        part = Path(header).parts[0]
        (shutil.copytree if (found / part).is_dir() else shutil.copy2)(found / part, include / part)
    for archive in ARCHIVES:
        found = Path(compiler_says(f"-print-file-name={archive}").strip())
        if not found.is_absolute():
            raise Failure(f"{archive} is missing; on Debian ./do wheel installs it")
        shutil.copy2(found, library)
    if not LICENCE.exists():
        raise Failure(f"{LICENCE} is missing: the licence of json-c must be in the wheel")
    shutil.copy2(LICENCE, include / "json-c")
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").exists():
        raise Failure(f"{headers}/Python.h is missing; on Debian ./do wheel installs it")
    shutil.copytree(headers, folder / "python")
    # Debian's pyconfig.h only includes the one of the machine, which is elsewhere.
    own = headers.parent / (sysconfig.get_config_var("MULTIARCH") or ".") / headers.name / "pyconfig.h"
    if own.exists():
        shutil.copy2(own, folder / "python")


def build_hook(python, folder, backend, settings, out):
    """Calls the build backend of a distribution; returns the wheel."""
    program = f"import sys, json, {backend} as b; print(b.build_wheel(sys.argv[1], json.loads(sys.argv[2])))"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    # No variable of the user's may change what is compiled.
    ours = {name: value for name, value in os.environ.items() if name not in ("CFLAGS", "LDFLAGS", "CPPFLAGS", "CC")}
    ours.update(ZIG_GLOBAL_CACHE_DIR=str(cache_folder() / "zig"), ZIG_LOCAL_CACHE_DIR=str(BUILD / "zig"))
    execute([python, "-c", program, out, json.dumps(settings)], f"the wheel of {folder.name}", cwd=folder, env=ours)
    return next(out.glob("*.whl"))


def build_causeway(python):
    staged = BUILD / "stage"
    stage(staged)
    zig = execute([python, "-c", "import ziglang; print(ziglang.__path__[0])"], "ziglang").strip() + "/zig"
    defines = {
        "CMAKE_TOOLCHAIN_FILE": ROOT / "cmake/zig.cmake",
        "CAUSEWAY_ZIG": zig,
        "CAUSEWAY_GLIBC": ".".join(map(str, GLIBC)),
        "CAUSEWAY_STAGE": staged,
        "Python_INCLUDE_DIR": staged / "python",
    }
    settings = {f"cmake.define.{name}": str(value) for name, value in defines.items()}
    settings["build-dir"] = str(BUILD / "cmake")
    wheel = build_hook(python, ROOT / "python", "scikit_build_core.build", settings, BUILD / "raw")
    tag = f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{platform.machine()}"
    execute([python, "-m", "wheel", "tags", "--remove", "--platform-tag", tag, wheel], "wheel tags")
    return next((BUILD / "raw").glob("*.whl"))


def elf_complaints(name, path, inside):
    """What keeps an ELF file from running on a system with glibc GLIBC; inside: names of the wheel's own libraries."""
    output = subprocess.run(
        ["readelf", "-W", "-V", "-d", path], capture_output=True, text=True, errors="replace", check=True
    ).stdout
    found = [
        f"{name}: needs GLIBC_{version}"
        for version in sorted(set(re.findall(r"Name: GLIBC_([\d.]+)", output)))
        if tuple(map(int, version.split("."))) > GLIBC
    ]
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output)
    return found + [f"{name}: needs {what}" for what in needed if not NEEDED.fullmatch(what) and what not in inside]


def examine(wheel):
    """Complaints about a wheel: ELF files that need too much, and a tag that promises something else."""
    found, elves = [], 0
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        inside = {Path(name).name for name in archive.namelist()}
        for name in archive.namelist():
            if archive.read(name)[:4] == b"\x7fELF":
                elves += 1
                found += elf_complaints(name, archive.extract(name, folder), inside)
    if f"manylinux_{GLIBC[0]}_{GLIBC[1]}_" not in wheel.name:
        found.append(f"{wheel.name}: is not tagged manylinux_{GLIBC[0]}_{GLIBC[1]}")
    if not elves:
        found.append(f"{wheel.name}: holds no ELF file")
    return found


def make():
    """Under a lock: tests, checks and people may all want the wheels."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_locked()


def make_locked():
    python = tools_python()
    wheels = [
        build_causeway(python),
        build_hook(python, ROOT / "python/mooncake-dropin", "hatchling.build", {}, BUILD / "raw-dropin"),
    ]
    found = examine(wheels[0])
    if found:
        raise Failure("\n".join(found))
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    for wheel in wheels:
        print(shutil.copy2(wheel, DIST))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examine", metavar="WHEEL", type=Path, nargs="+", help="only look at the ELF files of these")
    options = parser.parse_args()
    try:
        if options.examine:
            found = [line for wheel in options.examine for line in examine(wheel)]
            if found:
                raise Failure("\n".join(found))
        else:
            make()
    except Failure as failure:
        print(f"wheel: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
