#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the manual pages that follow from the sources: man.py FOLDER writes FOLDER/man3/*.3 and FOLDER/man7/*.7.

    cw_*.3               one for each function of include/causeway/causeway.h, from the comment before it
    causeway-settings.7  from src/core/settings.def
    causeway-status.7    from src/core/status.def

The comment before a function is sentences: its name line; a description; then, where they apply and in this order,
"Returns ...", "Errors: NAME (when), ..." and "Threads: ...". A function without a comment of this form, or with an
error that is not in status.def, is a failure.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "include/causeway/causeway.h"
COMMENT = r"((?:^/\*(?:(?!\*/).)*\*/\n)?)^"  # or none
LICENCE = '.\\" SPDX-License-Identifier: Apache-2.0\n'
VALUES = {
    "TEXT": "text",
    "NUMBER": "number",
    "BYTES": "bytes; k, m and g stand for powers of 1024",
    "BOOL": "on or off",
    "MS": "milliseconds",
    "SECRET": "text; shown as ***",
}
SCOPES = {
    "REQUEST": "the request or call alone",
    "PATH": "one way to the peer",
    "PEER": "the peer",
    "ENGINE": "the engine or the process",
}


class Malformed(Exception):
    pass


# ------------------------------------------------------------------------------------------------------- roff


def plain(text):
    """Text that roff shows as it is."""
    return text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")


def marked(text):
    """As plain(), with functions in bold and with their section, and types and constants in italics."""
    text = plain(text)
    text = re.sub(r"\b(cw_\w+)\(\)", r"\\fB\1\\fP(3)", text)
    text = re.sub(r"\b((?:CW_[A-Z]|cw_)\w+)\b(?!\\fP)", r"\\fI\1\\fP", text)
    return text


def paragraph(text):
    """One sentence a line, so that no line begins with a request."""
    return "".join(f"\\&{marked(line)}\n" for line in sentences(text))


def verbatim(text):
    """Source text as it is."""
    lines = "".join(f"\\&{plain(line.expandtabs(8))}\n" for line in text.splitlines())
    return f".EX\n{lines}.EE\n"


def page(name, section, summary, body):
    return (
        f'{LICENCE}.\\" Made by scripts/man.py; change what it was made from, not this.\n'
        f'.TH {name.upper()} {section} "" "Causeway" "Causeway Manual"\n'
        f".SH NAME\n{name} \\- {plain(summary)}\n{body}"
    )


def references(names):
    """names: (name, section) pairs."""
    rows = [f".BR {plain(name)} ({section})" for name, section in names]
    return ".SH SEE ALSO\n" + ",\n".join(rows) + "\n"


# ------------------------------------------------------------------------------------------------ the sources


def sentences(text):
    """Splits at full stops outside parentheses that a space and the start of another sentence follow."""
    found, start, depth = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "." and depth == 0 and re.match(r'\s+[A-Za-z0-9"\[(]', text[i + 1 :]):
            found.append(text[start : i + 1].strip())
            start = i + 1
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def comment_text(comment):
    lines = [re.sub(r"^\s*(/\*+|\*/|\*)?\s?", "", line) for line in comment.splitlines()]
    return re.sub(r"\s+", " ", " ".join(lines)).replace("*/", "").strip()


def read_statuses():
    rows = re.findall(r'^CW_STATUS\((\w+), (-?\d+), (\w+), ([01]), "(.*)"\)$', source("src/core/status.def"), re.M)
    if len(rows) != source("src/core/status.def").count("\nCW_STATUS("):
        raise Malformed("src/core/status.def: a row was not understood")
    return rows


def read_settings():
    text = source("src/core/settings.def")
    rows = re.findall(r'^CW_SETTING\("([^"]+)", (\w+), "([^"]*)", (\d+), (\d+), "((?:[^"\\]|\\.)*)"\)$', text, re.M)
    if len(rows) != text.count("\nCW_SETTING("):
        raise Malformed("src/core/settings.def: a row was not understood")
    return rows


def source(name):
    return (ROOT / name).read_text(encoding="utf-8")


class Function:
    """A declaration and its comment, taken apart."""

    def __init__(self, name, declaration, comment, statuses):
        self.name = name
        self.declaration = declaration
        text = comment_text(comment)
        match = re.fullmatch(
            r"(?P<about>.*?)(?:(?<!\S)(?P<returns>Returns .*?))?(?:\s*Errors: (?P<errors>.*?))?"
            r"\s*Threads: (?P<threads>[^:]*)",
            text,
        )
        if match is None or not match["about"]:
            raise Malformed(f"{name}: its comment needs a name line and, at its end, 'Threads: ...'")
        about = sentences(match["about"])
        self.summary = about[0].rstrip(".")
        self.summary = self.summary[0].lower() + self.summary[1:]
        self.about = " ".join(about)
        self.returns = (match["returns"] or "").strip()
        self.errors = self.split_errors(match["errors"] or "", statuses)
        self.threads = match["threads"].strip()
        if not declaration.startswith(("void ", "int ")) and not self.returns:
            raise Malformed(f"{name}: its comment needs 'Returns ...'")

    def split_errors(self, text, statuses):
        """Pairs (status name, when) of "NAME (when), NAME, ..."."""
        found = []
        for item in re.split(r",\s*(?![^()]*(?:\([^()]*\)[^()]*)*\))", text.rstrip(".")) if text else []:
            match = re.fullmatch(r"([A-Z_]+)(?: \((.*)\))?", item.strip())
            if match is None or "ERR_" + match[1] not in statuses:
                raise Malformed(f"{self.name}: '{item}' is not a status, or not of the form NAME (when)")
            found.append(("ERR_" + match[1], match[2] or ""))
        return found


def read_types(text):
    """The definitions that a page may have to show: name -> source text with the comment before it."""
    found = {}
    definition = r"((?:struct|enum) (cw_\w+) \{[^}]*\};|typedef [^;]*\(\*(cw_\w+)\)[^;]*;)$"
    for match in re.finditer(COMMENT + definition, text, re.M | re.S):
        found[match[3] or match[4]] = match[1] + match[2]
    return found


def read_functions(text, statuses):
    found = []
    declaration = r"((?!typedef)[a-z][\w \*]*?\b(cw_\w+)\([^;{]*\);)"
    for match in re.finditer(COMMENT + declaration, text, re.M | re.S):
        if not match[1]:
            raise Malformed(f"{match[3]}: no comment stands before it")
        found.append(Function(match[3], match[2], match[1], statuses))
    return found


# -------------------------------------------------------------------------------------------------- the pages


def needed_types(text, types):
    """The types that a declaration names, and those that they name, in order."""
    found, todo = [], [text]
    while todo:
        for name in re.findall(r"\bcw_\w+\b", todo.pop(0)):
            # The enum of all statuses has a page of its own.
            if name in types and name not in found and name != "cw_status":
                found.append(name)
                todo.append(types[name])
    return found


def function_page(function, functions, types, statuses):
    body = ".SH SYNOPSIS\n.nf\n.B #include <causeway/causeway.h>\n.PP\n"
    body += "".join(f'.B "{plain(line.expandtabs(8))}"\n' for line in function.declaration.splitlines())
    body += f".fi\n.SH DESCRIPTION\n{paragraph(function.about)}"

    body += ".SH RETURN VALUE\n"
    if function.returns:
        body += paragraph(function.returns)
    elif function.declaration.startswith("void "):
        body += "None.\n"
    else:
        body += paragraph("CW_OK (0), or a negative status.")
    if function.errors:
        body += ".SH ERRORS\n"
        for name, when in function.errors:
            text = when or statuses[name]
            body += f".TP\n.B CW_{name}\n\\&{marked(text[0].upper() + text[1:])}.\n"
        body += ".PP\nSee\n.BR causeway\\-status (7)\nfor what may come besides.\n"
    threads = re.sub(r"^any\b", "may be called from any thread", function.threads)
    body += f".SH THREADS\n{paragraph(threads[0].upper() + threads[1:])}"

    shown = needed_types(function.declaration, types)
    if shown:
        body += ".SH TYPES\n" + verbatim("\n\n".join(types[name] for name in shown))
    object_name = function.name.split("_")[1]
    mentioned = re.findall(r"\b(cw_\w+)\(\)", function.about)
    related = [each.name for each in functions if each.name in mentioned or each.name.split("_")[1] == object_name]
    related = sorted(set(related) - {function.name})
    pages = [(name, 3) for name in related] + [("causeway", 3), ("causeway-status", 7)]
    return page(function.name, 3, function.summary, body + references(pages))


def status_page(rows):
    body = """.SH DESCRIPTION
Functions of Causeway that can fail return 0 for success and a negative number for failure.
.BR cw_strerror (3)
gives the text of a status,
.BR cw_last_error (3)
one line about the last failure of a call in this thread, and
.BR cw_batch_result_get (3)
the status and one line about the first failure in a batch.
.PP
The scope is the largest thing that a failure concerns, and so what has to be thrown away before trying again.
A status is retryable when the same call may succeed later without a change by the caller.
.PP
Any function that returns a status may return
.B CW_ERR_INVALID
for a handle that is NULL or a struct whose size is not set, and
.B CW_ERR_FORKED
in a forked child.
.SH STATUSES
"""
    for name, value, scope, retryable, text in rows:
        text = text[0].upper() + text[1:]
        body += f".TP\n.BR CW_{name} \" ({plain(value)})\"\n\\&{plain(text)}.\n"
        if name != "OK":
            body += f".br\n\\&Scope: {SCOPES[scope]}; {'retryable' if retryable == '1' else 'not retryable'}.\n"
    functions = ["cw_strerror", "cw_status_scope", "cw_status_retryable", "cw_last_error", "causeway"]
    pages = [(name, 3) for name in functions]
    return page("causeway-status", 7, "what the statuses of Causeway mean", body + references(pages))


def settings_page(rows):
    body = r""".SH DESCRIPTION
Each setting has a key and a default.
A value comes from, in rising order of precedence: the default, the configuration file,
the environment, and the
.I settings
of
.BR cw_engine_open (3).
.PP
The file is JSON, one object for each first part of the keys:
.BR "{\(dqtcp\(dq: {\(dqconnections\(dq: 4}}" .
The environment is read only when the program asks for it; the commands do.
The name of a variable is
.B CW_
and the key in capitals, with / as _:
.BR CW_TCP_CONNECTIONS .
An unknown key and a value out of range are errors.
Keys that begin with
.B plugin/
belong to plug-ins and are not checked; they have no variable.
.PP
.B "causeway config"
prints every setting with its value and where it came from.
.SH SETTINGS
"""
    for key, kind, default, low, high, text in sorted(rows):
        value = f"{VALUES[kind]}, default {default or 'empty'}"
        if int(high) > 0:
            value += f", from {low} to {high}"
        body += f".TP\n.B {plain(key)}\n\\&{plain(text[0].upper() + text[1:])}\n.br\n\\&({plain(value)})\n"
    pages = [("causeway", 1), ("cw_engine_open", 3), ("cw_engine_settings", 3), ("causeway", 3)]
    return page("causeway-settings", 7, "what can be configured in a Causeway engine", body + references(pages))


def make_pages():
    """File name -> text, of all pages."""
    rows = read_statuses()
    statuses = {name: text for name, _, _, _, text in rows}
    text = HEADER.read_text(encoding="utf-8")
    types = read_types(text)
    functions = read_functions(text, statuses)
    pages = {f"man3/{each.name}.3": function_page(each, functions, types, statuses) for each in functions}
    pages["man7/causeway-status.7"] = status_page(rows)
    pages["man7/causeway-settings.7"] = settings_page(read_settings())
    return pages


def main():
    if len(sys.argv) != 2:
        print("usage: man.py FOLDER", file=sys.stderr)
        return 2
    try:
        pages = make_pages()
    except Malformed as error:
        print(f"man.py: {error}", file=sys.stderr)
        return 1
    for name, text in pages.items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
