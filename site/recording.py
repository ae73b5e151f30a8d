"""Runs scripts/demo in a pseudo-terminal and draws what it prints as docs/demo.svg.

usage: recording.py FILE
"""
import os
import pty
import re
import sys
import textwrap
from html import escape

from pictures import ROOT

COLUMNS = 100
LINE, LEFT, TOP = 18, 16, 30
STYLE = """
  text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre }
  text { fill: #e6edf3 }
  .page { fill: #0d1117; stroke: #30363d } .note { fill: #7ee787 }
  .typed { fill: #ffffff; font-weight: 600 } .status { fill: #9198a1 }
"""


def record():
    """What a terminal shows, line by line."""
    output = bytearray()

    def read(fd):
        data = os.read(fd, 4096)
        output.extend(data)
        return data

    status = pty.spawn([os.path.join(ROOT, "scripts", "demo")], read)
    if status:
        sys.exit(f"scripts/demo: status {os.waitstatus_to_exitcode(status)}")
    text = output.decode().replace("\r", "")
    return text[text.index("# The first one") :].strip().split("\n")


def kind(line):
    """The class of a line: what it is."""
    kinds = {"# ": "note", "$ ": "typed", "(exit status": "status"}
    return next((kinds[begin] for begin in kinds if line.startswith(begin)), "output")


def draw(lines):
    rows = [
        (row, kind(line))
        for line in lines
        for row in textwrap.wrap(
            line, COLUMNS, subsequent_indent="  ", break_on_hyphens=False, drop_whitespace=False
        )
        or [""]
    ]
    # A note belongs to what follows.
    rows = [row for i, row in enumerate(rows) if row[0] or not (i and rows[i - 1][1] == "note")]
    width, height = LEFT * 2 + round(COLUMNS * 7.83), TOP + LINE * len(rows)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" xml:space="preserve" '
        'aria-label="What scripts/demo prints">',
        f"<style>{STYLE}</style>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6" class="page"/>',
    ]
    for i, (row, name) in enumerate(rows):
        if row:
            out.append(f'<text x="{LEFT}" y="{TOP + LINE * i}" class="{name}">{escape(row)}</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    recorded = re.sub(
        r"/tmp/my-pid\.\d+", "/tmp/my-pid", re.sub(r"/tmp/tmp\.\w+/", "./", "\n".join(record()))
    ).split("\n")
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(draw(recorded))
