"""What griffe does to a docstring before it is Markdown: examples become blocks of code, as `>>>`
would be a quotation, and a `<name>` stays what it is, as it would be a tag.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*?(?=\n *\n|\Z)", re.DOTALL | re.MULTILINE)
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
CODE = re.compile(r"(`[^`]*`)")


def _fenced(match: re.Match[str]) -> str:
    return f"{match[1]}```pycon\n{match[0]}\n{match[1]}```"


def _escaped(line: str) -> str:
    pieces = CODE.split(line)
    pieces[::2] = [re.sub(r"<(?=[a-z_]+>)", "&lt;", piece) for piece in pieces[::2]]
    return "".join(pieces)


def readable(text: str) -> str:
    """The docstring with examples fenced and what looks like tags escaped, code apart."""
    lines, in_section = [], False
    for line in text.splitlines():
        in_section = in_section or bool(SECTION.match(line))
        is_text = in_section or not line.startswith((" ", ">>>", "..."))
        lines.append(_escaped(line) if is_text else line)
    return EXAMPLE.sub(_fenced, "\n".join(lines))


class Examples(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
