"""Draws the benchmark's result as SVG: bars on axes that begin at 0, readable on light and on dark pages."""
from html import escape

WIDTH = 860
LABEL = 132  # room for the names on the left of the bars
VALUE = 64  # room for the figure after the longest bar
BAR, STEP = 15, 22
STYLE = """
  svg { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
  .page { fill: #ffffff; stroke: #d8dee4 } .text { fill: #1f2328 } .soft { fill: #59636e; font-size: 12px }
  .title { font-weight: 600; font-size: 14px } .grid { stroke: #d8dee4 } .zero { stroke: #59636e }
  .ours { fill: #1a7f37 } .peer { fill: #9aa4af } .floor { fill: none; stroke: #59636e; stroke-dasharray: 3 2 }
  .right { text-anchor: end } .middle { text-anchor: middle }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #30363d } .text { fill: #e6edf3 } .soft { fill: #9198a1 }
    .grid { stroke: #30363d } .zero { stroke: #9198a1 } .ours { fill: #3fb950 } .peer { fill: #59636e } .floor { stroke: #9198a1 }
  }
"""


def text(x, y, words, classes):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}">{escape(words)}</text>'


def figure(value):
    return f"{value:,.0f}"


def axis_step(largest, pixels):
    """The distance of two grid lines: 1, 2 or 5 times a power of ten, so that their figures do not touch."""
    return next(step for power in range(12) for step in (10**power, 2 * 10**power, 5 * 10**power) if step / largest * pixels >= 50)


def panel(x, y, width, title, note, rows):
    """A title, a line on what it is, and a bar a row (name, value, class). Returns the drawing and where it ends."""
    left, right = x + LABEL, x + width - VALUE
    largest = max(value for _, value, _ in rows)
    scale = (right - left) / largest
    top = y + 46
    bottom = top + STEP * len(rows)
    out = [text(x, y + 12, title, "text title"), text(x, y + 30, note, "soft")]
    for tick in range(0, int(largest) + 1, axis_step(largest, right - left)):
        at = left + tick * scale
        out.append(f'<line x1="{at:.1f}" y1="{top - 4}" x2="{at:.1f}" y2="{bottom}" class="{"grid" if tick else "zero"}"/>')
        out.append(text(at, bottom + 14, figure(tick), "soft middle"))
    for i, (name, value, kind) in enumerate(rows):
        at = top + STEP * i
        out.append(text(left - 8, at + 12, name, "text right"))
        out.append(f'<rect x="{left}" y="{at}" width="{value * scale:.1f}" height="{BAR}" class="{kind}"/>')
        out.append(text(left + value * scale + 6, at + 12, figure(value), "text"))
    return out, bottom + 22


def kind_of(name):
    return "ours" if name.startswith("me-only") else "floor" if name in ("exec only", "no lock") else "peer"


def overhead_rows(result):
    """Shortest first. Without the slowest: one that is many times slower than the others would make lines of all of them."""
    rows = sorted(((s["over"], name) for name, s in result["start"].items() if name != "bare command"))
    limit = 10 * rows[len(rows) // 2][0]
    left_out = [f"{name} ({figure(value)})" for value, name in rows if value > limit]
    shown = [row for row in rows if row[0] <= limit]
    shown = [(name.replace("exec only", "no lock, exec only"), value, kind_of(name)) for value, name in shown]
    return shown, left_out


def memory_rows(result):
    names = ("me-only", "flock -n", "lckdo")
    rows = [(name, sum(p["rss"] for p in result["memory"][name].values()), kind_of(name)) for name in names]
    late = sum(p["rss"] for p in result["memory"]["me-only, after 1 s"].values())
    return [rows[0], ("… and its keeper", late, "ours"), *rows[1:]]


def draw(result):
    machine = result["machine"]
    margin, gap = 20, 24
    rows, left_out = overhead_rows(result)
    over = "" if not left_out else "; not shown: " + ", ".join(left_out)
    body, y = panel(margin, margin, WIDTH - 2 * margin, "What the lock costs a command, microseconds",
                    f"start to end, over the bare command's {figure(result['start']['bare command']['median'])}; medians{over}", rows)
    half = (WIDTH - 2 * margin - gap) / 2
    one, end_one = panel(margin, y + gap, half, "What stays in memory, kB", "resident size of all that waits for the job",
                         memory_rows(result))
    waiters = [(name, sorted(run["ms"])[len(run["ms"]) // 2], kind_of(name)) for name, run in result["herd"].items()]
    other = margin + half + gap
    two, end_two = panel(other, y + gap, half, f"{figure(result['size']['waiters'])} jobs wait for one lock, milliseconds",
                         "from its release until all of them have run", [(n.replace(" -n", ""), v, k) for n, v, k in waiters])
    bottom = max(end_one, end_two) + gap
    foot = f"{machine['date']}, Linux {machine['kernel'].split('-')[0]}, {machine['processors']} processors. Shorter is better. How: bench/README.md"
    height = bottom + 18
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" role="img"'
        ' aria-label="me-only beside its peers: overhead, memory, waiting">',
        f"<style>{STYLE}</style>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="6" class="page"/>',
        *body, *one, *two, text(margin, bottom + 2, foot, "soft"), "</svg>", ""])
