#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up the results of ctest and pytest (JUnit XML): lists what was skipped and what failed; last, the totals.

A unit test program counts as its cmocka cases. A program that failed without a failed case (it crashed or timed out)
counts as one failure, and so does a result file that is missing.
"""

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree

CASE = re.compile(r"\[\s+(OK|FAILED|SKIPPED)\s+\] (\w+)$")


class Totals:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []

    def line(self):
        return f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"


def add_unit_program(totals, case):
    """Counts the cmocka cases in the output of one ctest test."""
    program = case.get("name")
    output = (case.findtext("system-out") or "").splitlines()
    failed_before = len(totals.failed)
    counted = 0
    for i, text in enumerate(output):
        match = CASE.search(text.strip())
        # cmocka repeats failed cases in a closing list, under a line that says "[  FAILED  ] N test(s)".
        if match is None or "test(s)" in text:
            continue
        verdict, name = match.groups()
        if verdict == "OK":
            totals.passed += 1
        elif verdict == "SKIPPED":
            reason = output[i - 1].strip() if i > 0 and "[ RUN" not in output[i - 1] else "no reason given"
            entry = (f"{program}: {name}", reason)
            if entry[0] not in [seen for seen, _ in totals.skipped]:
                totals.skipped.append(entry)
        elif f"{program}: {name}" not in totals.failed:
            totals.failed.append(f"{program}: {name}")
        counted += 1

    if case.find("skipped") is not None and counted == 0:
        totals.skipped.append((program, case.find("skipped").get("message", "no reason given")))
    elif case.get("status") == "fail" or case.find("failure") is not None:
        if len(totals.failed) == failed_before:
            totals.failed.append(f"{program}: ended abnormally")
    elif counted == 0:
        totals.passed += 1


def add_process_test(totals, case):
    """Counts one pytest test."""
    name = f"{case.get('classname')}::{case.get('name')}"
    skipped = case.find("skipped")
    if case.find("failure") is not None or case.find("error") is not None:
        totals.failed.append(name)
    elif skipped is not None:
        totals.skipped.append((name, skipped.get("message", "no reason given")))
    else:
        totals.passed += 1


def add_file(totals, path, add):
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        totals.failed.append(f"no results in {path}: {error}")
        return
    for case in root.iter("testcase"):
        add(totals, case)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--result", help="also write the line of totals to this file")
    parser.add_argument("unit")
    parser.add_argument("process")
    arguments = parser.parse_args()

    totals = Totals()
    add_file(totals, arguments.unit, add_unit_program)
    add_file(totals, arguments.process, add_process_test)

    print()
    for name, reason in totals.skipped:
        print(f"skipped: {name}: {reason}")
    for name in totals.failed:
        print(f"failed: {name}")
    print(totals.line())
    if arguments.result:
        with open(arguments.result, "w", encoding="utf-8") as file:
            file.write(totals.line() + "\n")
    return 1 if totals.failed or totals.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
