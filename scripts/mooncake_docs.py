#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes docs/mooncake-settings.md and docs/error-codes.md from the tables in compat/mooncake/*.def.

mooncake_docs.py writes both; mooncake_docs.py --check says what is stale, or wrong in the tables, and fails.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "compat/mooncake"
MADE = "<!-- Made by scripts/mooncake_docs.py from compat/mooncake/{}; edit that. -->\n"

SETTINGS_TOP = """# Mooncake's variables, keys and protocols

What an engine that was started through Mooncake's interfaces does with Mooncake's configuration: the Python
drop-in (`mooncake.engine`), the C interfaces (`libtransfer_engine.so`) and `causeway config --mooncake`. The
native interface and the package `causeway` read none of it, but for `MC_TANGRT_*`.

```sh
causeway config --mooncake                  # what the variables of this shell mean
causeway config --mooncake mooncake.json    # the same, after a file
causeway config --mooncake mooncake.json > causeway.json && causeway doctor --config causeway.json
```

The settings go to stdout as a file for `--config`, everything else to stderr. Rules:

- A variable that is **mapped** becomes a setting of Causeway (`causeway config` lists them all). Files come
  first, then variables, then what the program says.
- One that has **no effect**, or belongs to **Mooncake Store**, is named once in each process, with the reason;
  the engine starts.
- A variable whose value cannot be read (`MC_RETRY_CNT=many`) is an error. A number outside of the range is
  named and ignored, as in Mooncake.
- `MC_...` names that nobody knows are named once with the nearest known name, and so are `MOONCAKE_...` names
  that look like a slip.
- In a file an unknown key, a wrong type, a number out of range and a key that stands twice are errors.
- *switch*: any value but `0`, `false`, `off` and `no` is on. Mooncake takes these four for on too; they are
  named when they are seen.
"""

KEYS_TOP = """## Keys of files

`mooncake.json` (`MOONCAKE_CONFIG_PATH`) and TENT's `transfer-engine.json` (`MC_TENT_CONF`) are read by the same
rules; nested objects and keys with slashes mean the same. Comments and trailing commas are not JSON. A switch
of a part that is not built is spoken of only when it is `true`.
"""

PROTOCOLS_TOP = """## Protocols

`protocol` of `initialize()`, `installTransport()`, `MOONCAKE_PROTOCOL`. A name never takes transports away: the
engine goes on choosing for each pair of memories. `MC_FORCE_TCP=1` leaves TCP alone.
"""

CODES_TOP = """# Error codes

The same failure in each interface. Mooncake has two families of numbers: negative `ERR_...` from registering
and opening (and from every call of Python), positive ones from submitting, asking for a status and freeing a
batch. A number says little: the line with the cause goes to the log, and in the native interface to
`cw_last_error()`, `struct cw_batch_result` and the exception's text.

`causeway-status(7)` says of each status what it concerns (request, path, peer, engine) and whether a retry can
help.
"""

CODES_END = """
## What a transfer ends with

| end | native | classic `getTransferStatus` | TENT `tent_task_status` | Python, native | Python, drop-in |
| --- | --- | --- | --- | --- | --- |
| done | `CW_BATCH_COMPLETED` | `STATUS_COMPLETED` 4 | `STATUS_COMPLETED` 4 | a result | 0; `transfer_check_status` 1 |
| failed | `CW_BATCH_FAILED` | `STATUS_FAILED` 6 | `STATUS_FAILED` 6 | the exception of the status | negative; -1 |
| canceled | `CW_BATCH_CANCELED` | `STATUS_FAILED` 6 | `STATUS_CANCELED` 3 | `causeway.Canceled` | negative; -1 |
| deadline passed | `CW_BATCH_TIMED_OUT` | `STATUS_FAILED` 6 | `STATUS_TIMEOUT` 5 | `causeway.TimedOut` | negative; -1 |
| not yet | – | `STATUS_WAITING` 0 | `STATUS_PENDING` 1 | – | 0 of `transfer_check_status` |

The classic interface says FAILED for every unsuccessful end, because programs written for it take CANCELED,
TIMEOUT and INVALID for success.

A batch that is freed before its end gives `BatchBusy` 4. An id that was never given, or was freed, gives
`InvalidArgument` 1.
"""


class Malformed(Exception):
    pass


def rows(name):
    """(section, [fields]) for each row of a table; a section is the comment before it."""
    section, found = "", []
    text = (TABLES / name).read_text(encoding="utf-8")
    text = re.sub(r"\A/\*[^\n]*\*/\n/\*\n.*?\n \*/\n", "", text, flags=re.S)
    for number, line in enumerate(text.splitlines(), 1):
        comment = re.fullmatch(r"/\* (.*?)\.? \*/", line)
        row = re.fullmatch(r"MOONCAKE_\w+\((.*)\)", line)
        if comment:
            section = comment.group(1)
        elif row:
            fields = re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s,][^,]*)', row.group(1))
            found.append((section, [(quoted or bare).replace('\\"', '"') for quoted, bare in fields]))
        elif line.strip():
            raise Malformed(f"{name}: row {number} is neither a row nor a comment of one line: {line}")
    return found


def cell(text):
    return text.replace("|", "\\|")


def table(columns, lines):
    head = "| " + " | ".join(columns) + " |\n" + "| " + " | ".join("---" for _ in columns) + " |\n"
    return head + "".join("| " + " | ".join(map(cell, line)) + " |\n" for line in lines)


TYPES = {
    "ANY": "",
    "TEXT": "text",
    "NUMBER": "whole number",
    "REAL": "number",
    "BOOL": "on, off",
    "SWITCH": "switch",
    "LIST": "list",
    "OBJECT": "object",
    "TEXTS": "text or list",
}


def values(kind, minimum, maximum, in_file):
    if kind == "BOOL" and in_file:
        return "true, false"
    if kind not in ("NUMBER", "REAL") or float(maximum) == 0:
        return TYPES[kind]
    return f"{minimum} to {maximum}"


# What fields of struct setup are, for readers.
FIELDS = {
    "force_tcp": "`transports/shm/enable`, `transports/sunrise_link/enable`, `transports/nvlink_intra/enable` = off",
    "intranode_nvlink": "`transports/nvlink_intra/enable`",
    "intra_nvlink": "`transports/nvlink_intra/enable`",
    "port_min": "`control/port_min`",
    "port_max": "`control/port_max`",
    "bind_address": "`engine/advertise`, `control/bind`",
    "use_ipv6": "`control/bind`",
    "legacy_binding": "the port of the engine's name",
    "log_level": "`log/level`",
    "transfer_timeout": "deadline of Python's calls",
    "metric": "lines of throughput",
    "metric_interval": "lines of throughput",
    "local_hostname": "the engine's name",
    "metadata_server": "`metadata/url`",
    "metadata_backend": "`metadata/url`",
    "protocol": "a notice",
    "device_name": "a notice",
    "force_mnnvl": "a notice",
    "file": "a file is read",
}


EFFECTS = {
    "NONE": "no effect",
    "ABSENT": "no effect",
    "STORE": "Mooncake Store's",
    "ELSEWHERE": "not the engine's",
}


def becomes(effect, target):
    if effect in ("SETTING", "SECONDS"):
        return f"`{target}`"
    if effect == "FIELD":
        if target not in FIELDS:
            raise Malformed(f"FIELDS of scripts/mooncake_docs.py has no text for {target}")
        return FIELDS[target]
    return EFFECTS[effect]


def note(effect, text):
    if effect == "ELSEWHERE":
        return f"read by {text}"
    if effect == "SECONDS":
        return "seconds; the setting is in milliseconds"
    return text


def sections(name, column, in_file):
    text, section, lines = "", None, []

    def flush():
        nonlocal text, lines
        if lines:
            text += f"\n### {section[0].upper()}{section[1:]}\n\n"
            text += table([column, "becomes", "values", "remarks"], lines)
        lines = []

    for now, (row, kind, minimum, maximum, effect, target, remark) in rows(name):
        if now != section:
            flush()
            section = now
        range_of = values(kind, minimum, maximum, in_file)
        lines.append([f"`{row}`", becomes(effect, target), range_of, note(effect, remark)])
    flush()
    return text


def settings_page():
    text = MADE.format("*.def") + SETTINGS_TOP + "\n## Variables\n" + sections("variables.def", "variable", False)
    text += "\n" + KEYS_TOP + sections("keys.def", "key", True) + "\n" + PROTOCOLS_TOP + "\n"
    lines = [
        [f"`{name}`", ", ".join(f"`{one}`" for one in transports.split(",")), used]
        for _, (name, transports, used) in rows("protocols.def")
    ]
    return text + table(["protocol", "transports, best first", "used instead"], lines)


def exceptions():
    """The package's class of each status, by number."""
    text = (ROOT / "python/causeway/_errors.py").read_text(encoding="utf-8")
    found = re.findall(r"^class (\w+)\(Error\b[^\n]*\n(?:(?!class ).*\n)*?    number = (-\d+)$", text, flags=re.M)
    return {number: name for name, number in found}


def codes_page():
    lines = []
    classes = exceptions()
    statuses = (ROOT / "src/core/status.def").read_text(encoding="utf-8")
    known = re.findall(r'^CW_STATUS\((\w+), (-?\d+), \w+, \d, "(.*)"\)$', statuses, flags=re.M)
    texts = {name: (number, text) for name, number, text in known}
    for _, (status, error, error_name, code, code_name, tent, tent_name) in rows("codes.def"):
        number, text = texts[status]
        python = f"`{classes[number]}`" if number in classes else "–"
        numbers = [f"{error} {error_name}", f"{code} {code_name}", f"{tent} {tent_name}"]
        lines.append([f"`CW_{status}` {number}", text, *numbers, python])
    columns = ["status", "means", "`ERR_`", "Status", "inside TENT", "`causeway.`"]
    return MADE.format("codes.def") + CODES_TOP + "\n" + table(columns, lines) + CODES_END


PAGES = {"docs/mooncake-settings.md": settings_page, "docs/error-codes.md": codes_page}


def wrong():
    """Complaints: pages that are not what the tables say, settings that do not exist."""
    found = []
    keys = set(re.findall(r'^CW_SETTING\("([^"]+)"', (ROOT / "src/core/settings.def").read_text(), flags=re.M))
    for name in ("variables.def", "keys.def"):
        for _, (row, _, _, _, effect, target, _) in rows(name):
            if effect in ("SETTING", "SECONDS") and target not in keys:
                found.append(f"{name}: {row}: there is no setting {target}")
    for path, make in PAGES.items():
        old = ROOT / path
        if not old.exists() or old.read_text(encoding="utf-8") != make():
            found.append(f"{path} is stale: scripts/mooncake_docs.py makes it")
    return found


def main(arguments):
    if arguments not in ([], ["--check"]):
        print("usage: mooncake_docs.py [--check]", file=sys.stderr)
        return 2
    try:
        if arguments:
            found = wrong()
            print("\n".join(found), end="\n" if found else "")
            return 1 if found else 0
        for path, make in PAGES.items():
            (ROOT / path).write_text(make(), encoding="utf-8")
    except Malformed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
