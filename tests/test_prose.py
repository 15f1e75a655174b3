"""Prose that a reader can follow: short lines, short sentences, no word twice in a row.

Judged is what was written by hand. Left out are code, maths, HTML, links' addresses and the tables
between `<!-- ... -->` and `<!-- end ... -->`, which scripts write. docs/log.md keeps its text of
the time.
"""

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST_LINE = 100
LONGEST_SENTENCE = 25

EXEMPT = {"docs/log.md"}

PAGES = sorted(
    name
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if (name := path.relative_to(ROOT).as_posix()) not in EXEMPT
)

CODE = re.compile(r"^( *)(```|~~~).*?^ *\2 *$", re.DOTALL | re.MULTILINE)
GENERATED = re.compile(r"<!-- (?!end)(.*?) -->.*?<!-- end.*?-->", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^()]*\)(\{[^}]*\})?")
# What ends a piece of prose that a full stop may not end.
ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|et al|cf|vs|Fig|Eq|approx)|\b[A-Z])\.$")


def written(text: str) -> str:
    """The page without what scripts wrote, code and comments; lines keep their numbers."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match.group().count("\n")

    for pattern in (CODE, GENERATED, COMMENT):
        text = pattern.sub(blank, text)
    return text


def plain(text: str) -> str:
    """Without marks: a link is its text, code in a line is one word."""
    text = LINK.sub(r"\1", text)
    number = itertools.count()
    text = re.sub(r"`[^`]+`", lambda _: f"code{next(number)}", text)
    text = re.sub(r"<[^>]+>", "", text)
    return re.sub(r"[*_]{1,2}(?=\S)|(?<=\S)[*_]{1,2}", "", text)


def paragraphs(text: str) -> list[str]:
    """Pieces of prose: paragraphs, headings, points of lists, cells of tables."""
    pieces: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines: list[str] = []
        for line in block.splitlines():
            stripped = line.strip()
            if stripped.startswith("|"):
                pieces += stripped.strip("|").split("|")
            elif re.match(r"(#|[-*+] |\d+\. |!!!|\?\?\?|=== |::: )", stripped):
                pieces.append(" ".join(lines))
                lines = [re.sub(r"^(#+|[-*+]|\d+\.)\s+", "", stripped)]
            else:
                lines.append(stripped)
            if stripped.startswith("#"):
                pieces.append(" ".join(lines))
                lines = []
        pieces.append(" ".join(lines))
    return [plain(piece) for piece in pieces if piece.strip()]


def sentences(paragraph: str) -> list[str]:
    """A full stop, question or exclamation mark before a space ends a sentence."""
    found, start = [], 0
    for match in re.finditer(r"[.!?][)\"']*(?=\s|$)", paragraph):
        if not ABBREVIATION.search(paragraph[: match.start() + 1]):
            found.append(paragraph[start : match.end()])
            start = match.end()
    return [*found, paragraph[start:]]


def words(sentence: str) -> int:
    return sum(any(c.isalnum() for c in word) for word in sentence.split())


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_short(page):
    long = []
    for number, line in enumerate(written((ROOT / page).read_text()).splitlines(), 1):
        # A row of a table cannot be broken, nor can an address.
        if line.lstrip().startswith("|") or line.lstrip().startswith("!["):
            continue
        if len(LINK.sub(r"\1", line)) > LONGEST_LINE:
            long.append(f"{page}:{number}: {len(line)} characters")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page):
    long = [
        f"{page}: {words(sentence)} words: {sentence.strip()}"
        for paragraph in paragraphs(written((ROOT / page).read_text()))
        for sentence in sentences(paragraph)
        if words(sentence) > LONGEST_SENTENCE
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("page", PAGES)
def test_no_phrase_stands_twice_in_a_row(page):
    from proselint.checks.lexical_illusions import check

    found = [
        twice
        for paragraph in paragraphs(written((ROOT / page).read_text()))
        for result in check.check_with_flags(paragraph)
        # Numbers may follow each other, and so may letters of a formula.
        if re.search(r"[a-z]{2}", twice := paragraph[slice(*result.span)])
    ]
    assert not found, f"{page}: {found}"


def test_the_check_finds_what_it_should():
    text = "One two three. " + "word " * 26 + "end.\n\n- See et al. for more.\n\n```\nx\n```\n"
    pieces = paragraphs(written(text))
    assert [words(s) for s in sentences(pieces[0])] == [3, 27, 0]
    assert pieces[1] == "See et al. for more."
    assert sentences(pieces[1])[0] == pieces[1]
    assert len(pieces) == 2
