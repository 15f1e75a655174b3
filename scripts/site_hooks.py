"""What mkdocs does to a page beyond its plugins: mathematics becomes MathML, which browsers draw
without a script. TeX stands between ```math fences in pages and between dollars in notebooks.
"""

import re
from typing import Any

from latex2mathml.converter import convert

FENCE = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# What a notebook's page would fetch from elsewhere: MathJax and Mermaid.
FOREIGN = re.compile(r"<script\b[^>]*>(?:(?!</script>).)*</script>", re.DOTALL)
# Code, also in the hidden text of the copy buttons.
VERBATIM = re.compile(
    r"(<(?:pre|code|style|svg|math)\b.*?</(?:pre|code|style|svg|math)>"
    r"|<div[^>]*clipboard-copy-txt[^>]*>.*?</div>)",
    re.DOTALL,
)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<![\\$\w])\$(?=\S)([^$<>]+?)(?<=\S)\$(?![\w$])")


def _block(tex: str) -> str:
    tex = tex.replace("{aligned}", "{align*}")
    return f'<div class="maths">{convert(tex.strip(), display="block")}</div>'


def _unescaped(tex: str) -> str:
    return tex.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    hidden = page.meta.setdefault("hide", [])
    if page.parent is None:
        # A tab of one page needs no list of pages.
        hidden.append("navigation")
    if "\n## " not in markdown and "\n::: " not in markdown:
        hidden.append("toc")
    return FENCE.sub(lambda match: _block(match[1]), markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    # Every second piece is code.
    pieces = VERBATIM.split(FOREIGN.sub("", html))
    for i in range(0, len(pieces), 2):
        text = DISPLAY.sub(lambda match: _block(_unescaped(match[1])), pieces[i])
        pieces[i] = INLINE.sub(lambda match: convert(_unescaped(match[1])), text)
    return "".join(pieces)
