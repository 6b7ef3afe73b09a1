#!/usr/bin/env python3
"""Results of tests that dev/test counts: files in the folder that TEST_RESULTS names, either JUnit's XML or JSON lines.

    go test -json ./... | dev/results.py go    prints what Go's tests print, and records each
    dev/results.py skip NAME REASON            records what could not be checked

A line is {"name": NAME} with one of "passed": true or false, and "skipped": REASON; "message" says why something failed.
"""
import json
import os
import sys
import xml.etree.ElementTree
from pathlib import Path


def record(name, **facts):
    """Writes one line; without TEST_RESULTS nobody counts."""
    if folder := os.environ.get("TEST_RESULTS"):
        with open(Path(folder, "results.jsonl"), "a") as file:
            file.write(json.dumps({"name": name, **facts}) + "\n")


def read(files):
    """The results in these files."""
    for file in files:
        if file.suffix == ".jsonl":
            yield from map(json.loads, file.read_text().splitlines())
        elif file.suffix == ".xml":
            yield from junit(xml.etree.ElementTree.parse(file))


def junit(tree):
    for case in tree.iter("testcase"):
        if case.find("skipped") is not None:
            continue
        name = " ".join(filter(None, (case.get("classname"), case.get("name"))))
        failures = [*case.iter("failure"), *case.iter("error")]
        texts = [one.get("message") or one.text or "" for one in failures]
        yield {"name": name, "passed": not failures, "message": "\n".join(texts)}


def go(lines):
    output = {}
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            print(line, end="", flush=True)
            continue
        test = event.get("Test")
        match event.get("Action"):
            case "output" | "build-output":
                print(event["Output"], end="", flush=True)
                output.setdefault(test, []).append(event["Output"])
            case "pass" if test:
                record(test, passed=True)
            case "fail" if test:
                record(test, passed=False, message="".join(output.get(test, [])))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["go"]:
            go(sys.stdin)
        case ["skip", name, reason]:
            record(name, skipped=reason)
        case _:
            sys.exit(__doc__)
