"""Checks that every link leads somewhere: between the pages, and from the failures to them."""

import re
from pathlib import Path

import pytest

from pytest_jobs.verdict import WORST_FIRST

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.joinpath("docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
SITE = "https://pytest-jobs.readthedocs.io/"
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    heads = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page):
    """Each relative link names a file that is there, and an anchor that it has."""
    broken = []
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_each_page_is_reached():
    """From the README every page can be found."""
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        seen.add(page)
        links = [link.partition("#")[0] for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]
        found = [(page.parent / link).resolve() for link in links if link.endswith(".md")]
        todo += [target for target in found if target not in seen]
    assert [page for page in PAGES if page not in seen] == []


def test_each_finding_has_its_section():
    """Every anchor that a failure prints stands in the reference of failures."""
    code = "\n".join(path.read_text("utf-8") for path in ROOT.joinpath("pytest_jobs").rglob("*.py"))
    printed = set(re.findall(r"\{DOCS\}#([\w-]+)", code)) | {*WORST_FIRST, "test"}
    assert {"state", "unfired"} <= printed
    assert printed - anchors(ROOT / "docs" / "reference" / "failures.md") == set()


def test_each_printed_page_is_there():
    """Every address of the documentation in the code names one page of docs/."""
    code = "\n".join(path.read_text("utf-8") for path in ROOT.joinpath("pytest_jobs").rglob("*.py"))
    named = set(re.findall(rf"{re.escape(SITE)}([\w/-]+)", code))
    pages = [path.stem for path in ROOT.joinpath("docs").rglob("*.md")]
    assert "failures" in named
    assert [name for name in sorted(named) if pages.count(name.strip("/").rpartition("/")[2]) != 1] == []
