"""The pictures, the site and the comparison are what their scripts make."""
import html
import importlib
import os
import re
import shlex
import subprocess
import sys

import pytest

from conftest import DEADLINE, ME_ONLY, ROOT


@pytest.fixture
def script(monkeypatch):
    """Import a module from site/."""
    monkeypatch.syspath_prepend(os.path.join(ROOT, "site"))
    return importlib.import_module


@pytest.mark.parametrize("name", ["badges", "mechanism", "fleet-time"])
def test_pictures_are_drawn_by_the_script(script, tmp_path, name):
    script("pictures").main(tmp_path)
    with open(os.path.join(ROOT, "docs", name + ".svg"), encoding="utf-8") as f:
        assert (tmp_path / (name + ".svg")).read_text(encoding="utf-8") == f.read()


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


@pytest.mark.static
def test_the_badges_are_true(script):
    assert script("pictures").BADGES == (("licence", "MIT"), ("language", "GNU C11"),
                                         ("system", "Linux"), ("needs", "libc only"))
    assert read("LICENSE").startswith("MIT License\n")
    assert "'c_std=gnu11'" in read("meson.build")
    p = subprocess.run(["readelf", "--dynamic", ME_ONLY], capture_output=True, check=True,
                       text=True, timeout=DEADLINE)
    assert "(NEEDED)" not in p.stdout


def test_the_recording_is_one_of_the_demo_as_it_is():
    """What differs from run to run is not compared. The demo itself is run elsewhere."""
    def shown(kind):
        return [html.unescape(line) for line
                in re.findall(f'class="{kind}">(.*)</text>', read("docs", "demo.svg"))]

    def words(line):
        return shlex.split(line.replace("$LOCK", "/tmp/my-pid").replace("$directory", "."))

    demo = read("scripts", "demo")
    notes = re.findall(r'^echo "(# .*)"$', demo, re.M)
    assert notes[0] == "# Packages, build." and notes[1:] == shown("note")
    commands = [line.removesuffix('&"') + "&" * line.endswith('&"') for line
                in re.findall(r'^(?:run \d |echo "\\\$ )(.*)$', demo, re.M)]
    assert len(commands) == 10
    assert [words(line) for line in commands] == \
        [words(line)[1:] for line in shown("typed") if "kill" not in line]


def test_links_of_the_site(tmp_path):
    """scripts/site makes all pages, and every link within them leads somewhere."""
    p = subprocess.run(
        [sys.executable, os.path.join(ROOT, "site", "pages.py"), tmp_path / "site"],
        capture_output=True,
        check=False,
        timeout=DEADLINE,
        text=True,
    )
    assert (p.returncode, p.stderr) == (0, ""), p.stdout
    assert {"index.html", "style.css", "man", "docs"} <= set(os.listdir(tmp_path / "site"))


@pytest.mark.parametrize("link", ["none.html", "there.html#none", "#none", "../outside.html"])
def test_a_wrong_link_is_found(script, tmp_path, link):
    (tmp_path / "there.html").write_text('<h1 id="here">x</h1>')
    (tmp_path / "page.html").write_text(
        '<a href="there.html#here">right</a> <a href="https://example.org">not looked at</a>'
    )
    assert script("pages").check(tmp_path)[2] == []
    (tmp_path / "page.html").write_text(f'<a href="{link}">wrong</a>')
    assert script("pages").check(tmp_path)[2] == [f"{tmp_path}/page.html: {link} leads nowhere"]


def test_a_directory_in_use_is_left_alone(script, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit):
        script("pages").main(str(tmp_path))
    assert os.listdir(tmp_path) == ["file"]


def test_the_comparison_is_true():
    """docs/comparison.md has the form that scripts/compare writes, and the quick experiments with
    me-only and flock give what it says."""
    p = subprocess.run(
        [os.path.join(ROOT, "scripts", "compare"), "--check"],
        capture_output=True,
        check=False,
        env={**os.environ, "ME_ONLY": ME_ONLY},
        timeout=DEADLINE,
        text=True,
    )
    assert (p.returncode, p.stderr) == (0, "")
