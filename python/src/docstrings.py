# SPDX-License-Identifier: Apache-2.0
"""Makes a C header of the docstrings in _causeway.pyi, so that help() shows what that file says.

docstrings.py INTERFACE HEADER: a macro DOC_<class>_<name> or DOC_<name> for each that has one.
"""

import ast
import inspect
import sys
from pathlib import Path


def signature(function, method):
    """The line by which Python knows a function's parameters; empty for a property."""
    if any(isinstance(mark, ast.Name) and mark.id == "property" for mark in function.decorator_list):
        return ""
    arguments = function.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.kwarg]:
        if argument is not None:
            argument.annotation = None
    text = ast.unparse(arguments)
    if method:
        text = text.replace("self", "$self", 1)
        if "/" not in text:
            text = text.replace("$self", "$self, /", 1)
    else:
        text = "$module, /" + (f", {text.removesuffix(', /')}" if text else "")
        text = text if not arguments.posonlyargs else f"$module, {ast.unparse(arguments)}"
    return f"{function.name}({text})\n--\n\n"


def literal(text):
    """A C string, one piece for each line."""
    lines = [line.replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n")]
    return " \\\n\t".join(f'"{line}\\n"' for line in lines[:-1]) + (" \\\n\t" if lines[:-1] else "") + f'"{lines[-1]}"'


def rows(tree):
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, signature(node, False), node
        elif isinstance(node, ast.ClassDef):
            yield node.name, "", node
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield f"{node.name}_{member.name}", signature(member, True), member


def main(interface, header):
    lines = ["/* Made by docstrings.py. */"]
    for name, first, node in rows(ast.parse(Path(interface).read_text(encoding="utf-8"))):
        text = ast.get_docstring(node)
        if text:
            lines.append(f"#define DOC_{name} \\\n\t{literal(first + inspect.cleandoc(text))}")
    Path(header).write_text("\n".join(lines) + "\n", encoding="utf-8")


main(*sys.argv[1:])
