#!/usr/bin/python3
"""Makes a source in which one rule is broken.

usage: break-rule.py RULE SOURCES OUT

RULE is a file of tests/simulation/*/broken:

    rule 6: what it says, and what is done instead
    file host/queue.c, or several
    kind kill2
    shows ORDER
    seeds 2000
    <<<<
    what is in the file once, however it is broken into lines
    ====
    what stands there instead
    >>>>

with as many of the last part as needed. The sources are looked for below the directory SOURCES and
written to OUT under their own names. Prints their paths, with commas, the kind of world, which
violation it is, and in how many seeds it must be found. What is not there, or twice, is an error.
"""
import pathlib
import re
import sys


def find(rule, sources, name):
    # Other programs of the tree have a main.c, too, further down.
    found = sorted(pathlib.Path(sources).rglob(name), key=lambda path: len(path.parts))
    if not found or (len(found) > 1 and len(found[1].parts) == len(found[0].parts)):
        sys.exit(f'{rule}: {len(found)} sources are called {name}')
    return found[0]


def main(rule, sources, out):
    text = pathlib.Path(rule).read_text()
    head = dict(line.split(' ', 1) for line in text.split('<<<<\n')[0].splitlines())
    files = {path: path.read_text() for path in (find(rule, sources, name) for name in head['file'].split())}
    edits = re.findall(r'<<<<\n(.*?)====\n(.*?)>>>>\n', text, re.S)
    if not edits:
        sys.exit(f'{rule}: changes nothing')
    for old, new in edits:
        # Words and signs count, not the blanks between them: a source may be formatted anew.
        pattern = r'\s*'.join(re.escape(token) for token in re.findall(r'\w+|[^\w\s]', old))
        places = [path for path, source in files.items() for _ in re.findall(pattern, source)]
        if len(places) != 1:
            sys.exit(f'{rule}: is {len(places)} times in {head["file"]}:\n{old}')
        files[places[0]] = re.sub(pattern, lambda match: new.rstrip('\n'), files[places[0]])
    for path, source in files.items():
        (pathlib.Path(out) / path.name).write_text(source)
    print(','.join(str(pathlib.Path(out) / path.name) for path in files), head['kind'], head['shows'], head['seeds'])


main(*sys.argv[1:])
