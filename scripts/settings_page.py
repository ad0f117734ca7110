#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes man/causeway-settings.7 from src/core/settings.def; with --check only says whether it is up to date."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "man/causeway-settings.7"
ROW = re.compile(r'^CW_SETTING\("([^"]+)", (\w+), "([^"]*)", (\d+), (\d+), "((?:[^"\\]|\\.)*)"\)$', re.M)
WHAT = {
    "TEXT": "text",
    "NUMBER": "number",
    "BYTES": "bytes; k, m and g stand for powers of 1024",
    "BOOL": "on or off",
    "MS": "milliseconds",
}

HEAD = r""".\" SPDX-License-Identifier: Apache-2.0
.\" Made by scripts/settings_page.py from src/core/settings.def; change that, not this.
.TH causeway-settings 7 "" "Causeway" "Causeway"
.SH NAME
causeway-settings \- what can be configured in a Causeway engine
.SH DESCRIPTION
Each setting has a key and a default.
A value comes from, in rising order of precedence: the default, the configuration file
(JSON, one object per first part of the key:
.BR "{\(dqtcp\(dq: {\(dqconnections\(dq: 4}}" ),
the environment, and the
.I settings
of
.BR cw_engine_open (3).
The environment is read only when the program asks for it; the commands do.
The name of a variable is
.B CW_
and the key in capitals, with / as _:
.BR CW_TCP_CONNECTIONS .
An unknown key and a value out of range are errors.
.B "causeway config"
prints every setting with its value and where it came from.
.SH SETTINGS
"""
TAIL = r""".SH SEE ALSO
.BR causeway (1)
"""


def roff(text):
    return text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")


def entry(key, kind, default, low, high, text):
    value = f"{WHAT[kind]}, default {default or 'empty'}"
    if int(high) > 0:
        value += f", from {low} to {high}"
    # A line that starts with a dot or a quote would be a request.
    return f".TP\n.B {roff(key)}\n\\&{roff(text[0].upper() + text[1:])}\n.br\n\\&({roff(value)})\n"


def main():
    rows = ROW.findall((ROOT / "src/core/settings.def").read_text(encoding="utf-8"))
    wanted = (ROOT / "src/core/settings.def").read_text(encoding="utf-8").count("\nCW_SETTING(")
    if len(rows) != wanted:
        print(f"src/core/settings.def: {wanted} rows, {len(rows)} understood", file=sys.stderr)
        return 1
    page = HEAD + "".join(entry(*row) for row in sorted(rows)) + TAIL
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
            return 0
        print(
            "man/causeway-settings.7 is not what src/core/settings.def gives; run scripts/settings_page.py",
            file=sys.stderr,
        )
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
