"""What the language model says, as text: tokens to words, and what the words call its objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from unipixel import grammar
from unipixel.types import Span

_NAME_BEFORE = re.compile(r"(?:the|an?)\s+([^,.:;@]{1,60}?)(?:\s+(?:is|are))?\s*$", re.IGNORECASE)
_NAME_AFTER = re.compile(r"^ is (?:the|an?) ([^,.:;@]{1,60}?)(?=[,.;]|\sand\s|$)", re.IGNORECASE)


class Words:
    """Tokens to text: bytes of one character can be spread over several tokens, so some are held back."""

    def __init__(self, tokenizer: Any, parser: grammar.AnswerParser, seg_id: int) -> None:
        self.tokenizer, self.parser, self.seg_id = tokenizer, parser, seg_id
        self.control_ids = set(tokenizer.all_special_ids)
        self.held: list[int] = []

    def take(self, token: int) -> str:
        if token in self.control_ids:
            return self._flush() + (self.parser.feed_seg() if token == self.seg_id else "")
        self.held.append(token)
        text = self.tokenizer.decode(self.held)
        return "" if text.endswith("\ufffd") and len(self.held) < 4 else self._flush()

    def finish(self) -> str:
        return self._flush() + self.parser.finish()

    def _flush(self) -> str:
        text = self.tokenizer.decode(self.held) if self.held else ""
        self.held = []
        return self.parser.feed_text(text) if text else ""


def names_in(text: str, spans: Sequence[Span]) -> dict[int, str]:
    """What an answer calls its objects: "The red ball is @2." names object 2, "@1 is a cat." object 1."""
    names: dict[int, str] = {}
    for span in spans:
        match = _NAME_AFTER.match(text[span.end :]) or _NAME_BEFORE.search(text[: span.start])
        if match and span.object_id not in names:
            names[span.object_id] = match[1].strip()
    return names
