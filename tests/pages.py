"""A page as its reader sees it: tags, addresses and text; and designs for small ones."""

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

from synthetic import BASELINES


def design(*factors: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "search", "factors": list(factors), "fixed": {}, "baselines": dict(BASELINES)}


class Page(HTMLParser):
    """Collects tags, addresses, alternative texts, cells and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.addresses += [named[name] or "" for name in ("src", "srcset", "href") if name in named]
        if tag == "img":
            self.alts.append(named.get("alt") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
