#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The checks of `./do check`: rows of CHECKS below, each a function that returns a list of complaints (empty = ok).

Prints one line for each check and ends with a failure status when any failed. Arguments name the checks to run;
none = all.
"""

import csv
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
SPDX = "SPDX-License-Identifier: Apache-2.0"
PART_KINDS = ("transports", "platforms", "metadata")
# What parts may include of others: transports over GPU runtimes share one core and the vendors' table.
SHARED_HEADERS = ("platforms/gpu/gpu.h", "platforms/gpu/abi/", "transports/peer_copy/peer_copy.h")
COLUMNS = 120
FILE_LINES = 800
FUNCTION_LINES = 99
# What each library exports, and where that is written down: functions of headers, and a symbol map.
COMPAT_HEADERS = "compat/mooncake/include"
LIBRARIES = {
    "libcauseway.so": (["include/causeway/causeway.h"], "src/causeway.map"),
    "libtransfer_engine.so": (
        [f"{COMPAT_HEADERS}/transfer_engine_c.h", f"{COMPAT_HEADERS}/tent/transfer_engine.h"],
        "compat/mooncake/cabi/exports.map",
    ),
}
# GB/s for 1 MiB writes, far below what any machine does: they catch a lost order of magnitude, not a few percent.
BENCH_FLOORS = {"tcp": 0.2, "shm": 0.5}


def run(command, timeout=120, **options):
    """Runs a command; returns (exit status, output). A timeout is a failure with a line that says so."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            text=True,
            errors="replace",
            check=False,
            **options,
        )
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or ""
        if isinstance(output, bytes):
            output = output.decode(errors="replace")
        return 124, f"{output}\ntimed out after {timeout} s: {command}"
    return done.returncode, done.stdout


def complaints(command, timeout=120, lines=40, **options):
    """Runs a command that is silent or irrelevant when it succeeds; its last lines are the complaint when it fails."""
    status, output = run(command, timeout, **options)
    return [] if status == 0 else output.splitlines()[-lines:] or [f"exit status {status}: {command}"]


def sources(*suffixes, under=""):
    """Files of the tree, tracked or new, that end in one of the suffixes."""
    _, output = run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", under or "."])
    paths = (ROOT / line for line in output.splitlines())
    return sorted(path for path in paths if path.is_file() and (not suffixes or path.name.endswith(suffixes)))


def relative(path):
    return str(path.relative_to(ROOT))


def text_of(path):
    return path.read_text(encoding="utf-8", errors="replace")


def without_comments(text):
    """C text with comments blanked; line numbers stay."""
    return re.sub(r"/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match.group()), text, flags=re.S)


def build(preset):
    """Builds; the complaints are the compiler's errors, or the end of the output when there are none among them."""
    status, output = run(["./do", "build", preset], timeout=1200)
    if status == 0:
        return []
    wrong = re.compile(r"error:|undefined reference|multiple definition")
    errors = [line for line in output.splitlines() if wrong.search(line)]
    return errors[:20] or output.splitlines()[-20:]


def public_functions(header="include/causeway/causeway.h"):
    code = without_comments(text_of(ROOT / header))
    found = re.findall(r"^(?!typedef)[a-z][\w \*]*?\b(\w+)\(", code, flags=re.M)
    return list(dict.fromkeys(found))


def check_format():
    found = []
    for path in sources(".c", ".h"):
        status, output = run(["clang-format", "--dry-run", "-Werror", str(path)])
        if status:
            found.append(
                f"{relative(path)}: {output.count('clang-format-violations')} places; clang-format -i puts them right"
            )
    return found


def check_headers():
    """Each header compiles alone; the public ones as C11 and as C++17, without a warning."""
    flags = ["-Iinclude", f"-I{COMPAT_HEADERS}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    found = []
    for path in sources(".h", under="include") + sources(".h", under=COMPAT_HEADERS):
        found += complaints(["gcc", "-x", "c", "-std=c11", *flags, str(path)])
        found += complaints(["g++", "-x", "c++", "-std=c++17", *flags, str(path)])
    flags += ["-Isrc", "-Icompat", "-D_GNU_SOURCE", "-Wno-unused"]
    for path in sources(".h", under="src") + sources(".h", under="compat/mooncake/cabi"):
        found += complaints(["gcc", "-x", "c", "-std=c11", *flags, str(path)])
    return found


def check_symbols():
    """The headers, the symbol map and the library agree, for each library."""
    found = build("release")
    for library, (headers, symbol_map) in LIBRARIES.items() if not found else ():
        declared = {name for header in headers for name in public_functions(header)}
        listed = set(re.findall(r"^\t(\w+);", text_of(ROOT / symbol_map), flags=re.M))
        _, output = run(["nm", "-D", "--defined-only", f"build/release/lib/{library}"])
        exported = {line.split()[2].split("@")[0] for line in output.splitlines() if line.split()[1] != "A"}
        for names, what in (
            (declared - listed, f"is declared but not in {symbol_map}"),
            (listed - declared, f"is in {symbol_map} but not declared"),
            (declared - exported, f"is declared but not exported by {library}"),
            (exported - declared, f"is exported by {library} but not declared"),
            ({name for name in exported if name.startswith("cw__")}, f"must not be exported by {library}"),
        ):
            found += [f"{name} {what}" for name in sorted(names)]
    return found


def check_needed():
    """libcauseway.so needs libc alone (ld-linux is part of it)."""
    found = build("release")
    if found:
        return found
    _, output = run(["readelf", "-d", "build/release/lib/libcauseway.so"])
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output)
    return [f"libcauseway.so needs {name}" for name in needed if not name.startswith(("libc.so", "ld-linux"))]


def check_parts():
    """The core names no part, no part includes another part, and the core sees the wire at its one seam only."""
    found = []
    names = [path.name for kind in PART_KINDS for path in (ROOT / "src" / kind).glob("*") if path.is_dir()]
    literal = re.compile(r'"(' + "|".join(map(re.escape, names)) + r')(/[^"]*)?"') if names else None
    include = re.compile(r'^\s*#\s*include\s*["<]((?:' + "|".join(PART_KINDS) + r')/([^/">]+)/[^">]+)[">]', re.M)
    for path in sources(".c", ".h", under="src"):
        name, code = relative(path), without_comments(text_of(path))
        in_core = name.startswith("src/core/")
        if in_core and literal:
            found += [f'{name}: names the part "{match.group(1)}"' for match in literal.finditer(code)]
        if in_core and path.name != "control_ops.h" and re.search(r'#\s*include\s*["<]wire/', code):
            found.append(f"{name}: the core includes a wire format")
        for match in include.finditer(code):
            folder = Path(match.group(1)).parts[0] + "/" + match.group(2)
            if not name.startswith(f"src/{folder}/") and not match.group(1).startswith(SHARED_HEADERS):
                found.append(f"{name}: includes the private header {match.group(1)}")
    return found


def check_lengths():
    found = []
    for path in sources(".c", ".h", ".py"):
        lines = text_of(path).splitlines()
        if len(lines) >= FILE_LINES:
            found.append(f"{relative(path)}: {len(lines)} lines, the limit is {FILE_LINES - 1}")
        found += [
            f"{relative(path)}:{number}: {columns} columns, the limit is {COLUMNS}"
            for number, line in enumerate(lines, 1)
            if (columns := len(line.expandtabs(8))) > COLUMNS
        ]
        if path.suffix != ".c":
            continue
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line.startswith("}") and start is not None:
                if number - start > FUNCTION_LINES:
                    found.append(
                        f"{relative(path)}:{start}: a function of {number - start} lines, the limit is {FUNCTION_LINES}"
                    )
                start = None
    return found


def check_words():
    """No unowned reminders, and no file or function whose name says nothing."""
    reminder = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    vague = re.compile(r"(^|[_/.-])(misc|helpers?|common|manager|utils)([_/.-]|$)")
    vague_name = re.compile(r"\b\w*(?:helper|manager|misc)\w*\s*\(")
    found = []
    for path in sources():
        name = relative(path)
        if vague.search(name):
            found.append(f"{name}: the name says nothing")
        if path == Path(__file__).resolve() or path.stat().st_size > 1 << 20:
            continue
        text = text_of(path)
        for number, line in enumerate(text.splitlines(), 1):
            if reminder.search(line):
                found.append(f"{name}:{number}: {line.strip()}")
        if path.suffix in (".c", ".h"):
            found += [
                f"{name}: {match.group()[:-1]}: the name says nothing"
                for match in vague_name.finditer(without_comments(text))
            ]
    return found


def check_licences():
    names = (".c", ".h", ".def", ".map", ".py", ".sh", ".cmake", "CMakeLists.txt", "do", "run", ".clang-format")
    return [
        f"{relative(path)}: no SPDX line at the top"
        for path in sources(*names)
        if (path.suffix or path.name in names) and SPDX not in "\n".join(text_of(path).splitlines()[:2])
    ]


def check_covered():
    """Each public function is used in a test or an example."""
    shown = "\n".join(text_of(path) for folder in ("tests", "examples") for path in sources(".c", under=folder))
    return [
        f"{name} is in no test or example"
        for name in public_functions()
        if not re.search(rf"\b{name}\b", shown)
    ]


def check_man():
    """Every public function has a manual page, and groff has nothing to say about any page."""
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        found = complaints([sys.executable, "scripts/man.py", folder])
        made = sorted(Path(folder).glob("man*/*"))
        names = {path.name for path in made}
        found += [f"{name} has no manual page" for name in public_functions() if f"{name}.3" not in names]
        for path in [*sources(under="man"), *made]:
            if text_of(path).startswith(".so "):
                continue  # another name of a page
            status, output = run(["groff", "-man", "-Tutf8", "-ww", "-z", str(path)])
            found += [f"{path.name}: {line}" for line in output.splitlines()[:3] or ["groff failed"] * (status != 0)]
    return found


def check_mooncake():
    """The tables of Mooncake's variables, keys and codes name what exists, and the pages made from them are fresh."""
    return complaints([sys.executable, "scripts/mooncake_docs.py", "--check"])


def check_quiet():
    """A clean run of open, transfer and close writes nothing anywhere."""
    found = build("release")
    if found:
        return found
    status, output = run(["build/release/bin/cwquiet"], timeout=60)
    return ([f"exit status {status}"] if status else []) + output.splitlines()[:20]


def sanitized(preset, **environment):
    found = build(preset)
    if found:
        return found
    return complaints(
        ["ctest", "--test-dir", f"build/{preset}", "-j2", "--output-on-failure", "--no-tests=error"],
        timeout=1200,
        lines=120,
        env={**os.environ, **environment},
    )


def check_asan():
    return sanitized(
        "asan",
        ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1",
        UBSAN_OPTIONS="print_stacktrace=1",
    )


def check_tsan():
    return sanitized("tsan", TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1")


def check_fuzz():
    """Every decoder, for CAUSEWAY_FUZZ_SECONDS (60) each."""
    script = ROOT / "scripts/fuzz.sh"
    return complaints([str(script)], timeout=2400) if script.exists() else ["scripts/fuzz.sh is missing"]


def check_bench():
    """The benchmark moves what it says, by the way that was asked for, and not at a crawl; and against the bare limit,
    in each of several runs, no workload has lost more than a third of what bench/recorded.json says. The figures are in
    build/bench/quick.txt."""
    found = build("release")
    for transport, floor in BENCH_FLOORS.items() if not found else ():
        command = ["build/release/bin/causeway", "bench", "--loopback", "--transport", transport, "--verify"]
        command += ["--size", "1m", "--buffer", "64m", "--seconds", "1", "--format", "csv"]
        status, output = run(command, timeout=60)
        rows = list(csv.DictReader(io.StringIO(output)))
        if status or len(rows) != 1:
            found += [f"{transport}: exit status {status}", *output.splitlines()[-10:]]
        elif rows[0]["path"] != transport or rows[0]["verified"] != "yes":
            found.append(f"{transport}: {rows[0]}")
        elif float(rows[0]["gigabytes_per_second"]) < floor:
            found.append(f"{transport}: {rows[0]['gigabytes_per_second']} GB/s, expected at least {floor}")
    if found:
        return found
    status, output = run([sys.executable, "bench/run.py", "--quick"], timeout=600)
    (BUILD / "bench").mkdir(exist_ok=True)
    (BUILD / "bench/quick.txt").write_text(output, encoding="utf-8")
    return [] if status == 0 else output.splitlines()[-30:]


def check_install():
    """A program outside the tree builds against what is installed, by pkg-config and by find_package, and runs."""
    found = build("release")
    if found:
        return found
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        return complaints(["bash", "scripts/check_install.sh", folder])


def check_wheel():
    """The wheels can be made, and no ELF file in them needs a symbol newer than GLIBC_2.28 or a library of its own."""
    found = complaints(["./do", "wheel"], timeout=900)
    wheels = [str(path) for path in sorted((BUILD / "wheel/dist").glob("causeway-*.whl"))]
    if found or len(wheels) != 1:
        return found or [f"one wheel of causeway was expected in build/wheel/dist: {wheels}"]
    return complaints([sys.executable, "scripts/wheel.py", "--examine", *wheels])


CHECKS = {
    "format": check_format,
    "headers": check_headers,
    "licences": check_licences,
    "words": check_words,
    "lengths": check_lengths,
    "parts": check_parts,
    "covered": check_covered,
    "man": check_man,
    "mooncake": check_mooncake,
    "symbols": check_symbols,
    "needed": check_needed,
    "install": check_install,
    "wheel": check_wheel,
    "quiet": check_quiet,
    "asan": check_asan,
    "tsan": check_tsan,
    "fuzz": check_fuzz,
    "bench": check_bench,
}


def main(names):
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"no such check: {', '.join(unknown)}; there are: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    BUILD.mkdir(exist_ok=True)
    failed = []
    for name in names or CHECKS:
        start = time.monotonic()
        found = CHECKS[name]()
        seconds = time.monotonic() - start
        print(f"{name:<10} {'FAILED' if found else 'ok':<6} {seconds:7.1f} s", flush=True)
        for line in found:
            print(f"    {line}", flush=True)
        if found:
            failed.append(name)
    print(f"checks: {len(names or CHECKS) - len(failed)} ok, {len(failed)} failed {' '.join(failed)}".rstrip())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
