"""Draws docs/badges.svg, docs/mechanism.svg and docs/fleet-time.svg. Words and places are below;
no picture is edited by hand. The style is the benchmark's: readable on light and on dark pages.

usage: pictures.py DIRECTORY
"""
import os
import sys
from html import escape

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WIDTH = 760
STYLE = """
  svg { font: 13px system-ui, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif }
  .page { fill: #ffffff; stroke: #d8dee4 } .text { fill: #1f2328 }
  .soft { fill: #59636e; font-size: 12px }
  .title { font-weight: 600; font-size: 14px }
  .mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 12px }
  .middle { text-anchor: middle } .right { text-anchor: end }
  .box { fill: #ffffff; stroke: #59636e } .band { fill: #f3f5f7; stroke: #d8dee4 }
  .lock { fill: #dafbe1; stroke: #1a7f37 }
  .group { fill: none; stroke: #59636e; stroke-dasharray: 4 3 }
  .line { fill: none; stroke: #59636e; stroke-width: 1.3 }
  .held { fill: none; stroke: #1a7f37; stroke-width: 1.6 }
  .dashed { stroke-dasharray: 4 3 } .head { fill: #59636e } .heldhead { fill: #1a7f37 }
  .runs { fill: #1a7f37 } .ends { fill: #bf8700 } .other { fill: #0969da } .lease { fill: #9aa4af }
  .alarm { stroke: #cf222e; stroke-width: 1.6 }
  .number { fill: #59636e }
  .digit { fill: #ffffff; font-weight: 600; font-size: 11px; text-anchor: middle }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #30363d } .text { fill: #e6edf3 } .soft { fill: #9198a1 }
    .box { fill: #0d1117; stroke: #9198a1 } .band { fill: #161b22; stroke: #30363d }
    .lock { fill: #12361f; stroke: #3fb950 }
    .group { stroke: #9198a1 } .line { stroke: #9198a1 } .held { stroke: #3fb950 }
    .head { fill: #9198a1 } .heldhead { fill: #3fb950 }
    .runs { fill: #3fb950 } .ends { fill: #d29922 } .other { fill: #4493f8 }
    .lease { fill: #59636e } .alarm { stroke: #f85149 }
    .number { fill: #9198a1 } .digit { fill: #0d1117 }
  }
"""


def text(x, y, words, classes="text"):
    return f'<text x="{x}" y="{y}" class="{classes}">{escape(words)}</text>'


def box(x, y, width, height, kind, *lines):
    """A box with lines of text in its middle: (words, classes)."""
    out = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" class="{kind}"/>']
    top = y + height / 2 - 8 * len(lines) + 12
    return out + [
        text(x + width / 2, top + 16 * i, words, classes + " middle")
        for i, (words, classes) in enumerate(lines)
    ]


def arrow(x1, y1, x2, y2, kind="line", head="head"):
    return [f'<path d="M{x1} {y1}L{x2} {y2}" class="{kind}" marker-end="url(#{head})"/>']


def step(x, y, number, words):
    return [
        f'<circle cx="{x}" cy="{y - 4}" r="9" class="number"/>',
        text(x, y, str(number), "digit"),
        text(x + 18, y, words),
    ]


def picture(height, label, body):
    marker = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" class="{name}"/></marker>'
        for name in ("head", "heldhead")
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" '
            f'aria-label="{escape(label)}">',
            f"<style>{STYLE}</style>",
            f"<defs>{marker}</defs>",
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6" '
            'class="page"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def mechanism():
    """A host lock: who has which name open, and what happens when the holder ends."""
    kernel, processes, steps = 44, 210, 318
    body = [
        text(20, 30, "A host lock is a name in the kernel's table of sockets, which ss -xl shows", "text title"),
        *box(20, kernel, 720, 74, "band"),
        *box(
            36,
            kernel + 12,
            316,
            50,
            "lock",
            ("@me-only:/tmp/backup", "text mono"),
            ("the lock", "soft"),
        ),
        *box(
            396,
            kernel + 12,
            328,
            50,
            "box",
            ("@me-only:/tmp/backup@queue@1000", "text mono"),
            ("the queue of user 1000", "soft"),
        ),
        *box(20, processes - 10, 296, 92, "group"),
        text(34, processes + 73, "holder: each of them keeps the name bound", "soft"),
    ]
    for i, (name, what) in enumerate(
        (("me-only", "takes it"), ("command", "inherits it"), ("keeper", "in reserve"))
    ):
        x = 32 + 91 * i
        body += box(x, processes, 84, 54, "box", (name, "text"), (what, "soft"))
        body += arrow(x + 42, processes, 120 + 60 * i, kernel + 63, "held", "heldhead")
    for i, (name, what) in enumerate(
        (("front", "is next"), ("second", "successor"), ("third", "successor"))
    ):
        x = 344 + 100 * i
        body += box(x, processes, 84, 54, "box", (name, "text"), (what, "soft"))
        body += arrow(x + 46, processes, 450 + 60 * i, kernel + 63)
        if i:
            body += [f'<path d="M{x - 16} {processes + 27}h16" class="line"/>']
    body += arrow(360, processes, 340, kernel + 63, "line dashed")
    body += box(644, processes, 92, 54, "box", ("others", "text"), ("in backlog", "soft"))
    body += arrow(690, processes, 690, kernel + 63, "line dashed")
    body += [
        text(336, 150, "sees the", "soft right"),
        text(336, 165, "hang-up", "soft right"),
        text(682, 150, "connected", "soft right"),
        text(344, processes + 73, "each holds the queue's socket; links tell which one is gone", "soft"),
    ]
    for i, words in enumerate(
        (
            "The holder's last process exits: the kernel frees the name and hangs up.",
            "The front sees that, binds the name, and starts its command. No file, no timeout.",
            "The second sees that the front has left. It holds the queue's socket: it is the front now.",
            "It takes the oldest waiter out of the backlog, as the new third.",
        )
    ):
        body += step(34, steps + 24 * i, i + 1, words)
    last = "If one of these three is killed or stopped, the other two keep the order."
    body.append(text(52, steps + 24 * 4 - 4, last))
    return picture(
        steps + 24 * 4 + 16, "A host lock: holder, queue, successors and hand-over", body
    )


def fleet_time():
    """The times of --ttl=30s, as man me-only-etcd has them under "The cluster does not answer"."""
    left, scale = 112, 18.2

    def at(seconds):
        return round(left + scale * seconds, 1)

    def bar(y, begin, end, kind):
        width = round(at(end) - at(begin), 1)
        return f'<rect x="{at(begin)}" y="{y}" width="{width}" height="18" class="{kind}"/>'

    rows = {"lease": 92, "me-only": 132, "command": 172, "another host": 212}
    body = [
        text(
            20,
            30,
            "The cluster stops answering: the command is gone before another host can start",
            "text title",
        ),
        text(
            20,
            50,
            "fleet lock, --ttl=30s and -k 5s; the last confirmed renewal was sent at second 0",
            "soft",
        ),
    ]
    for name, y in rows.items():
        body.append(text(left - 12, y + 14, name, "text right"))
    bottom = 240
    for seconds, kind, top in (
        (0, "line", 74),
        (5, "line", 118),
        (23.4, "alarm", 118),
        (28.4, "alarm", 118),
        (30, "line", 74),
    ):
        body.append(f'<path d="M{at(seconds)} {top}V{bottom}" class="{kind}"/>')
    body += [
        bar(rows["lease"], 0, 30, "lease"),
        bar(rows["me-only"], 0, 28.4, "band"),
        bar(rows["command"], 0, 23.4, "runs"),
        bar(rows["command"], 23.4, 28.4, "ends"),
        bar(rows["another host"], 30, 34.4, "other"),
    ]
    for seconds in range(5, 23, 2):
        body.append(f'<path d="M{at(seconds)} {rows["me-only"] + 3}v12" class="line"/>')
    body += [
        text(at(5) + 6, rows["me-only"] - 4, "tries to renew, each time for 2 s at most", "soft"),
        text(at(0) + 6, rows["lease"] - 4, "valid at least until second 30", "soft"),
        text(at(0) + 6, rows["command"] - 4, "runs", "soft"),
        text(at(23.4) + 6, rows["command"] - 4, "cleans up", "soft"),
        text(at(30) + 6, rows["another host"] - 4, "may hold", "soft"),
    ]
    for seconds, words, where in (
        (0, "0 s: sent", "middle"),
        (5, "5: next due", "middle"),
        (23.4, "23.4: SIGTERM", "right"),
        (28.4, "28.4: SIGKILL", "right"),
        (30, "30", "middle"),
    ):
        body.append(
            text(at(seconds) - (6 if seconds == 23.4 else 0), bottom + 16, words, f"text {where}")
        )
    body.append(
        text(
            20,
            bottom + 44,
            "The cluster counts from the arrival of the renewal, which is never before second 0.",
            "soft",
        )
    )
    return picture(bottom + 60, "The time rule of a fleet lock", body)


# The badges at the top of the README; tests/behaviour/test_site.py checks that they are true.
BADGES = (("licence", "MIT"), ("language", "GNU C11"), ("system", "Linux"), ("needs", "libc only"))


def badges():
    """Each badge is a word on grey and a word on green."""
    out, x, height = [], 0, 20
    for key, value in BADGES:
        left, right = (16 + round(6.6 * len(word)) for word in (key, value))
        out += [
            f'<rect x="{x}" y="0" width="{left + right}" height="{height}" rx="3" fill="#1a7f37"/>',
            f'<path d="M{x + 3} 0h{left - 3}v{height}h{3 - left}a3 3 0 0 1-3-3v-14a3 3 0 0 1 3-3" '
            'fill="#4a525b"/>',
            f'<text x="{x + left / 2}" y="14">{key}</text>',
            f'<text x="{x + left + right / 2}" y="14">{value}</text>',
        ]
        x += left + right + 6
    label = ", ".join(f"{key}: {value}" for key, value in BADGES)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{x - 6}" height="{height}" role="img" '
            f'aria-label="{label}">',
            '<style>text { font: 12px system-ui, "DejaVu Sans", Helvetica, Arial, sans-serif; '
            "fill: #ffffff; text-anchor: middle }</style>",
            *out,
            "</svg>",
            "",
        ]
    )


def main(directory):
    for name, draw in (("badges", badges), ("mechanism", mechanism), ("fleet-time", fleet_time)):
        with open(os.path.join(directory, name + ".svg"), "w", encoding="utf-8") as f:
            f.write(draw())


if __name__ == "__main__":
    main(sys.argv[1])
