"""Makes the manual for the web: all documents and manual pages as HTML, with the paths that they
have in the tree, so that a link needs nothing but another ending. See scripts/site.

usage: pages.py DIRECTORY
"""
import html
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The pages that all others lead to. What these link to becomes a page as well.
PAGES = {
    "README.md": "me-only",
    "man/me-only.1": "Manual: me-only(1)",
    "man/me-only-etcd.7": "me-only-etcd(7)",
    "man/me-only-messages.7": "me-only-messages(7)",
    "docs/recipes.md": "Recipes",
    "docs/moving-from-flock.md": "Moving from flock",
    "docs/faq.md": "Questions",
    "docs/comparison.md": "Other tools",
    "docs/benchmarks.md": "Benchmarks",
    "docs/fleet.md": "Load on a fleet",
    "docs/protocol.md": "Protocol",
    "docs/design.md": "Design",
    "docs/verification.md": "Verification",
    "SECURITY.md": "Security",
    "CONTRIBUTING.md": "Contributing",
    "NEWS.md": "News",
}
OTHER_MANUALS = "https://manpages.debian.org/"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{style}">
</head>
<body>
<nav aria-label="Pages"><ul>
{links}
</ul></nav>
<main{kind}>
{body}
</main>
</body>
</html>
"""


def convert(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout


def page_of(path):
    """Where the page of a file of the tree is."""
    if path == "README.md":
        return "index.html"
    if os.path.isdir(os.path.join(ROOT, path)):
        return os.path.join(path, "index.html")
    if path.endswith((".svg", ".css")):
        return path
    return (path[:-3] if path.endswith(".md") else path) + ".html"


def relative(target, page):
    return os.path.relpath(target, os.path.dirname(page) or ".")


def slug(heading):
    """The anchor that GitHub gives to a heading, from its HTML."""
    words = html.unescape(re.sub("<[^>]*>", "", heading)).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def with_anchors(body):
    seen = {}

    def anchored(match):
        name = slug(match[2])
        seen[name] = seen.get(name, -1) + 1
        name += f"-{seen[name]}" if seen[name] else ""
        return f'<{match[1]} id="{name}">{match[2]}</{match[1]}>'

    return re.sub(r"<(h[1-6])>(.*?)</\1>", anchored, body, flags=re.S)


class Site:
    def __init__(self, directory):
        self.directory = directory
        self.to_do = list(PAGES)
        self.done = set()

    def make(self):
        while self.to_do:
            path = self.to_do.pop(0)
            if path not in self.done:
                self.done.add(path)
                self.add(path)
        self.copy("site/style.css", "style.css")

    def copy(self, path, target):
        target = os.path.join(self.directory, target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(os.path.join(ROOT, path), target)

    def add(self, path):
        full = os.path.join(ROOT, path)
        if os.path.isdir(full):
            rows = "".join(
                f'<li><a href="{name}"><code>{name}</code></a></li>\n'
                for name in sorted(os.listdir(full))
            )
            self.write(
                path, path, f"<h1>{path}/</h1>\n<ul>\n{self.resolved(rows, path + '/.')}</ul>"
            )
        elif path.endswith(".md"):
            body = convert("cmark-gfm", "--unsafe", "-e", "table", "-e", "autolink", path)
            body = re.sub(r"<!-- .*? -->\n?", "", body, flags=re.S)
            body = re.sub(
                r"<table>.*?</table>|<p><img [^>]*></p>",
                r'<div class="wide">\g<0></div>',
                with_anchors(body),
                flags=re.S,
            )
            # No line ends after the hyphen of an option.
            body = re.sub(r"<code>(?=[^<]{1,20}</code>)", '<code class="short">', body)
            title = html.unescape(re.sub("<[^>]*>", "", re.search(r"<h1[^>]*>(.*?)</h1>", body)[1]))
            self.write(path, title, self.resolved(body, path))
        elif re.search(r"^man/.*\.[1-8]$", path):
            body = convert("mandoc", "-T", "html", "-O", "fragment,man=%N.%S.html", path)
            # mandoc's headings begin at h1, and its names may occur twice.
            self.write(path, PAGES[path].split(": ")[-1], self.manuals(body, path), "manual")
        elif page_of(path) == path:
            self.copy(path, path)
        else:
            with open(full, encoding="utf-8") as f:
                self.write(
                    path, path, f"<h1>{path}</h1>\n<pre><code>{html.escape(f.read())}</code></pre>"
                )

    def manuals(self, body, path):
        def link(match):
            own = os.path.join(os.path.dirname(path), match[1])
            return match[0] if own in PAGES else f'href="{OTHER_MANUALS}{match[1]}"'

        return re.sub(r'href="([\w.+-]+\.\d)\.html"', link, body)

    def resolved(self, body, path):
        """Links to files of the tree lead to their pages, which are made as well."""

        def link(match):
            target, anchor = urldefrag(html.unescape(match[2]))
            if not target or re.match("[a-z]+:", target):
                return match[0]
            target = os.path.normpath(os.path.join(os.path.dirname(path), unquote(target)))
            self.to_do.append(target)
            there = relative(page_of(target), page_of(path)) + ("#" + anchor if anchor else "")
            return f'{match[1]}="{html.escape(there)}"'

        return re.sub(r'\b(href|src)="([^"]*)"', link, body)

    def write(self, path, title, body, kind=""):
        page = page_of(path)
        links = "\n".join(
            f'<li><a href="{relative(page_of(other), page)}"'
            f'{" aria-current=page" if other == path else ""}>{name}</a></li>'
            for other, name in PAGES.items()
        )
        target = os.path.join(self.directory, page)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8") as f:
            f.write(
                PAGE.format(
                    title=html.escape(title if title == "me-only" else f"{title} – me-only"),
                    links=links,
                    style=relative("style.css", page),
                    kind=f' class="{kind}"' if kind else "",
                    body=body,
                )
            )


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.links = [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.names += [values["id"]] if "id" in values else []
        self.links += [values[key] for key in ("href", "src") if key in values]


def check(directory):
    """What is wrong with the links: (page, link) whose file or anchor is missing, and anchors that
    occur twice.
    """
    pages, wrong = {}, []
    for at, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(at, name)
            pages[path] = Links()
            if name.endswith(".html"):
                with open(path, encoding="utf-8") as f:
                    pages[path].feed(f.read())
    for path, page in pages.items():
        wrong += [
            f"{path}: #{name} occurs twice"
            for name in set(page.names)
            if page.names.count(name) > 1
        ]
        for link in page.links:
            target, anchor = urldefrag(link)
            if re.match("[a-z]+:", target):
                continue
            there = (
                os.path.normpath(os.path.join(os.path.dirname(path), unquote(target)))
                if target
                else path
            )
            if there not in pages or anchor and unquote(anchor) not in pages[there].names:
                wrong.append(f"{path}: {link} leads nowhere")
    return len(pages), sum(len(page.links) for page in pages.values()), wrong


def main(directory):
    if os.path.exists(os.path.join(directory, "style.css")):
        shutil.rmtree(directory)  # an earlier site
    if os.path.isdir(directory) and os.listdir(directory):
        sys.exit(f"{directory} is in use")
    Site(directory).make()
    pages, links, wrong = check(directory)
    print("\n".join(wrong), end="\n" if wrong else "")
    print(f"{directory}: {pages} files, {links} links, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(os.path.normpath(sys.argv[1])))
