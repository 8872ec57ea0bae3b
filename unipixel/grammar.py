"""Every string the model reads or writes: control tokens, prompt wording, and the parser of answers.

People write objects as `@1`; the model reads and writes `[1]`. Text that people type is "defused" before it is
encoded: no control string in it can become a control token, and it reads back unchanged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unipixel.types import BoolArray, Span

REF_TOKEN = "<|ref|>"
SEG_TOKEN = "<|seg|>"
MEM_TOKEN = "<|mem|>"
UNIPIXEL_TOKENS = (REF_TOKEN, SEG_TOKEN, MEM_TOKEN)

TURN_START, TURN_END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"

_REQUEST_WORDS = {
    "can",
    "find",
    "locate",
    "mark",
    "please",
    "segment",
    "show",
    "track",
    "what",
    "where",
    "which",
    "who",
}
SYSTEM_PROMPT = "You are a helpful assistant."
LOCALIZE = "Please localize the relevant objects with IDs."

MAX_OBJECTS = 32
MAX_TEXT_LENGTH = 4000
TEXT_EMPTY = "Type a question or mark something first."
CONTROL_REMOVED = "Invisible control characters were removed."

# What tokenizers of this family treat as control tokens: `<|name|>`, and tags such as `<tool_call>` or `</think>`.
CONTROL_PATTERN = re.compile(r"<\|[^<>|]{0,64}\|>|</?[A-Za-z_]\w{0,31}>")

_JOINER = "\u2060"  # WORD JOINER: invisible, no line break, and part of no control token
_STARTS_CONTROL = r"(?=\||/?[A-Za-z_]\w{0,31}>)"
_DEFUSE = re.compile(f"<({_JOINER}*){_STARTS_CONTROL}")
_UNDEFUSE = re.compile(f"<{_JOINER}({_JOINER}*){_STARTS_CONTROL}")

_ID = r"(0|[1-9][0-9]{0,3})"
# ASCII on purpose: languages written without spaces ("请问@1在哪") still mention objects.
_WORD = "[A-Za-z0-9_@]"
_MENTION = re.compile(f"(?<!{_WORD})@{_ID}(?!{_WORD})")

_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
# The flags of England, Scotland and Wales are a black flag with tag characters; those stay.
_CONTROL_OR_FLAG = re.compile(f"(\U0001f3f4[\U000e0061-\U000e007a]{{3,6}}\U000e007f)|{_CONTROL_CHARACTERS.pattern}")
# Characters that count as letters or marks and still show nothing.
_BLANKS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0") | frozenset(map(chr, range(0xFE00, 0xFE10)))


# ---------------------------------------------------------------------------------------------- text from people


def defuse(text: str) -> str:
    """Cut every control string in `text` with an invisible joiner, so that no tokenizer can match it.

    Runs that already hold joiners get one more, which is what makes `undefuse(defuse(text)) == text` hold for all text.
    """
    return _DEFUSE.sub(rf"<{_JOINER}\1", text)


def undefuse(text: str) -> str:
    """Take out the joiners that `defuse` put in."""
    return _UNDEFUSE.sub(r"<\1", text)


class CheckedText(NamedTuple):
    """Text that may be used, and sentences on what was changed in it."""

    text: str
    notices: tuple[str, ...] = ()


def remove_control_characters(text: str) -> str:
    """Drop escape codes, NUL, lone surrogates, bidi overrides and tag characters; real scripts and emoji stay."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return _CONTROL_OR_FLAG.sub(lambda match: match[1] or "", whole)


def _is_visible(character: str) -> bool:
    return not (character.isspace() or character in _BLANKS or unicodedata.category(character) == "Cf")


def check_text(text: str, *, limit: int = MAX_TEXT_LENGTH) -> CheckedText:
    """Return `text` without control characters, with a notice if there were any.

    Raises ValueError for what is not text, has no visible character, or is longer than `limit` characters.
    """
    if not isinstance(text, str):
        raise ValueError(f"A question must be text, not {type(text).__name__}.")
    if len(text) > limit:
        raise ValueError(f"The text is too long (limit {limit} characters).")
    clean = remove_control_characters(text)
    if not any(map(_is_visible, clean)):
        raise ValueError(TEXT_EMPTY)
    return CheckedText(clean, (CONTROL_REMOVED,) if clean != text else ())


def mentioned_ids(text: str) -> list[int]:
    """Ids of the objects written `@id` in `text`, each once, in order of first mention."""
    return list(dict.fromkeys(int(match[1]) for match in _MENTION.finditer(text)))


def rename_ids(text: str, names: Mapping[int, int]) -> str:
    """`text` with the objects in `names` under their new ids."""
    return _MENTION.sub(lambda match: f"@{names.get(int(match[1]), match[1])}", text)


def render_question(text: str) -> str:
    """A person's words as the model reads them: `@1` becomes `[1]`, control strings are defused.

    Earlier answers (`Turn.answer`) go back to the model through the same function.
    """
    return _MENTION.sub(r"[\1]", defuse(text))


def render_answer(text: str, found: Iterable[int]) -> str:
    """An answer as the model writes it: the first mention of each object in `found` is its `<|seg|>`.

    Where these are the next free ids in order, `parse_answer` gives `text` back.
    """
    new = set(found)

    def write(match: re.Match[str]) -> str:
        object_id = int(match[1])
        if object_id not in new:
            return f"[{object_id}]"
        new.remove(object_id)
        return SEG_TOKEN

    return _MENTION.sub(write, defuse(text))


# ------------------------------------------------------------------------------------------------------- requests


def segment_request(expression: str, is_image: bool) -> str:
    """A request for masks: a bare name ("the red ball") becomes a sentence, anything longer stays as it is."""
    words = expression.split()
    is_sentence = not words or len(words) > 12 or words[-1][-1] in ".?!。？！…" or words[0].lower() in _REQUEST_WORDS
    return (
        expression
        if is_sentence
        else f"Please segment {expression.strip()} in this {'image' if is_image else 'video'}."
    )


def describe_request(object_id: int) -> str:
    """The question behind a region caption."""
    return f"Describe @{object_id}."


class PrefillQuestion(NamedTuple):
    """The user turn of the pre-fill pass; `ref_ids` are the objects of its `<|ref|>` tokens, in their order."""

    text: str
    ref_ids: tuple[int, ...]


def render_prefill_question(question: str, object_ids: Iterable[int]) -> PrefillQuestion:
    """The user turn that asks where the marked objects are.

    The first mention of a marked object becomes `[id] <|ref|>`, later ones `[id]`. Marked objects that the question
    does not mention are named after it: `The marked objects are [2] <|ref|> and [3] <|ref|>.`
    """
    wanted = dict.fromkeys(object_ids)
    order: list[int] = []

    def mark(match: re.Match[str]) -> str:
        object_id = int(match[1])
        if object_id not in wanted or object_id in order:
            return f"[{object_id}]"
        order.append(object_id)
        return f"[{object_id}] {REF_TOKEN}"

    parts = [_MENTION.sub(mark, defuse(question.strip()))]
    rest = [object_id for object_id in wanted if object_id not in order]
    if rest:
        names = [f"[{object_id}] {REF_TOKEN}" for object_id in rest]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        parts.append(f"The marked {'object is' if len(names) == 1 else 'objects are'} {listed}.")
    return PrefillQuestion(" ".join(filter(None, [*parts, LOCALIZE])), (*order, *rest))


def render_prefill_answer(object_ids: Iterable[int]) -> str:
    """The answer the pre-fill pass is forced to: `[1] <|seg|> [2] <|seg|>`."""
    return " ".join(f"[{object_id}] {SEG_TOKEN}" for object_id in object_ids)


# --------------------------------------------------------------------------------------------------------- memory


class TemporalPatch(NamedTuple):
    """Number of a temporal patch (from 0), and its first and last frame (from 1)."""

    patch_index: int
    first: int
    last: int


def visible_patches(visible: BoolArray | Sequence[bool], temporal_patch_size: int = 2) -> list[TemporalPatch]:
    """The temporal patches in which an object is visible; `visible` says it for each of T frames.

    A patch keeps its full range at the end of an odd clip (frames 3-4 of 3): its missing frame is a copy of the last
    one, and the released checkpoints were trained with this wording.
    """
    size = temporal_patch_size
    starts = range(0, len(visible), size)
    return [TemporalPatch(t // size, t + 1, t + size) for t in starts if any(visible[t : t + size])]


def _render_region(object_id: int, patches: Sequence[tuple[int, int]], with_range: bool) -> str:
    ranges = [f"<{first}>" if first == last else f"<{first}>-<{last}>" for first, last in patches]
    return f"[{object_id}]: " + " ".join(f"{r} {MEM_TOKEN}" if with_range else MEM_TOKEN for r in ranges) + "\n"


def render_memory(
    num_frames: int,
    is_image: bool,
    patches: Mapping[int, Sequence[tuple[int, int]]],
    *,
    image_ranges: bool = False,
) -> str:
    """The prefix that shows the memory's objects to the model, one `<|mem|>` per visible temporal patch.

    `patches` maps object ids to (first, last) frames, counted from 1; objects without any are left out, and without
    objects the prefix is empty. Images carry no frame range, as in training; `image_ranges=True` writes the `<1>` that
    the original's demo put there.
    """
    shown = {object_id: ranges for object_id, ranges in patches.items() if len(ranges)}
    if not shown:
        return ""
    if is_image:
        head = "Here is an image with the following highlighted regions:\n"
    else:
        head = (
            f"Here is a video with {num_frames} frames denoted as <1> to <{num_frames}>. "
            "The highlighted regions are as follows:\n"
        )
    with_range = image_ranges or not is_image
    return head + "".join(_render_region(object_id, ranges, with_range) for object_id, ranges in shown.items())


# ---------------------------------------------------------------------------------------------------- conversation


def render_turn(role: str, text: str) -> str:
    """One finished turn in the chat format; `text` is rendered (trusted) text."""
    return f"{TURN_START}{role}\n{text}{TURN_END}\n"


def render_media(as_image: bool = False) -> str:
    """The placeholder of the picture or clip. UniPixel reads images as one-frame videos unless `as_image`."""
    return f"{VISION_START}{IMAGE_PAD if as_image else VIDEO_PAD}{VISION_END}"


def render_prefix(as_image: bool = False) -> str:
    """What every conversation about one media starts with: the system turn, and the media in the first user turn."""
    return render_turn("system", SYSTEM_PROMPT) + f"{TURN_START}user\n{render_media(as_image)}"


def render_conversation(user: str, history: Iterable[tuple[str, str]] = (), *, as_image: bool = False) -> str:
    """The whole prompt up to where the model answers; `history` holds earlier (user, assistant) texts.

    It starts with `render_prefix`; all texts must be rendered already (`render_question` and so on).
    """
    text, opening = render_prefix(as_image), ""
    for earlier_user, earlier_answer in history:
        text += f"{opening}{earlier_user}{TURN_END}\n{render_turn('assistant', earlier_answer)}"
        opening = f"{TURN_START}user\n"
    return f"{text}{opening}{user}{TURN_END}\n{TURN_START}assistant\n"


# --------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class ParsedAnswer:
    """An answer in people's words.

    `spans` are the places of `text` that name objects; `seg_ids` has one entry per `<|seg|>` of the raw text, the
    object it draws, or None where it is ignored because there are too many.
    """

    text: str
    spans: tuple[Span, ...]
    seg_ids: tuple[int | None, ...]


_SEG = "\x00"  # the parser's own mark for a `<|seg|>`; control characters of the raw text never get this far
_LITERAL = "\x01"  # a `<` that is text for sure
_PIECE = re.compile(
    rf"(?P<control><\|[^<>|{_LITERAL}]{{0,64}}\|>)|[<{_LITERAL}]{_JOINER}(?P<joiners>{_JOINER}*){_STARTS_CONTROL}"
)
_PIECE_OPEN = re.compile(
    rf"<(\|([^<>|{_LITERAL}]{{0,64}}\|?)?)?\Z|[<{_LITERAL}]{_JOINER}*(/?([A-Za-z_]\w{{0,31}})?)?\Z"
)
_NAME = re.compile(rf"(?:\[{_ID}\]|@{_ID}(?!{_WORD}))(?P<seg> ?{_SEG})?")
_NAME_OPEN = re.compile(rf"\[(0|[1-9][0-9]{{0,3}})?\Z|\[{_ID}\] ?\Z|@{_ID}? ?\Z")
_PLAIN = re.compile(rf"[^{_SEG}\[@]+")
_WORD_CHARACTER = re.compile(_WORD)


class AnswerParser:
    """Turns the model's words into people's words, piece by piece.

    The deltas of `feed`, `feed_text`, `feed_seg` and `finish` joined are `text`, however the answer is cut.
    `used_ids` are ids already taken, `retired_ids` those of removed objects (never named or drawn again), `max_new`
    limits how many objects the answer may add; at most `MAX_OBJECTS` of its `<|seg|>` are drawn at all.
    """

    def __init__(
        self, used_ids: Iterable[int] = (), *, retired_ids: Iterable[int] = (), max_new: int = MAX_OBJECTS
    ) -> None:
        self._known = set(used_ids)
        self._retired = set(retired_ids)
        self._next_id = max(self._known | self._retired, default=0) + 1
        self._room = max_new
        self._drawn = 0
        self._raw = ""  # not yet split into text and control strings
        self._pending = ""  # text and seg marks, not yet decided
        self._after_name = False
        self.text = ""
        self.spans: list[Span] = []
        self.seg_ids: list[int | None] = []

    def feed(self, piece: str) -> str:
        """Take the next piece of raw text, in which `<|seg|>` is the token; return the text that is now certain."""
        return self._take(_CONTROL_CHARACTERS.sub("", piece))

    def feed_text(self, piece: str) -> str:
        """Take a piece made of ordinary tokens: control strings spelled in it are text, never controls."""
        return self._take(_CONTROL_CHARACTERS.sub("", piece).replace("<", _LITERAL))

    def feed_seg(self) -> str:
        """Take one `<|seg|>` token."""
        return self._take(SEG_TOKEN)

    def finish(self) -> str:
        """Say that nothing follows; return the rest of the text."""
        return self._advance(final=True)

    def result(self) -> ParsedAnswer:
        """What was parsed so far (everything, after `finish`)."""
        return ParsedAnswer(self.text, tuple(self.spans), tuple(self.seg_ids))

    def _take(self, piece: str) -> str:
        self._raw += piece
        return self._advance(final=False)

    def _advance(self, final: bool) -> str:
        start = len(self.text)
        self._split_controls(final)
        self._read_names(final)
        return self.text[start:]

    def _split_controls(self, final: bool) -> None:
        """Move from `_raw` to `_pending`: seg tokens become marks, other control tokens go, joiners are taken out."""
        held = None if final else _PIECE_OPEN.search(self._raw)
        end = held.start() if held else len(self._raw)

        def plain(match: re.Match[str]) -> str:
            if match["control"] is None:
                return "<" + match["joiners"]
            return _SEG if match["control"] == SEG_TOKEN else ""

        ready, self._raw = self._raw[:end], self._raw[end:]
        self._pending += _PIECE.sub(plain, ready).replace(_LITERAL, "<")

    def _read_names(self, final: bool) -> None:
        """Move from `_pending` to `text`, stopping where the next characters could change what it means."""
        buffer, at = self._pending, 0
        while at < len(buffer):
            if buffer[at] == _SEG:
                self._draw(None)
                at += 1
                continue
            if plain := _PLAIN.match(buffer, at):
                self._write(plain[0])
                at = plain.end()
                continue
            if not final and _NAME_OPEN.match(buffer, at):
                break
            at += self._read_name(buffer, at)
        self._pending = buffer[at:]

    def _read_name(self, buffer: str, at: int) -> int:
        """Read `[id]` or `@id` (with the seg that follows) or one plain character; return how many were read."""
        match = _NAME.match(buffer, at)
        glued = buffer[at] == "@" and not self._after_name and _WORD_CHARACTER.match(self.text[-1:])
        object_id = int(match[1] or match[2]) if match else -1
        if match is None or glued or object_id in self._retired:
            self._write(buffer[at])
            return 1
        if match["seg"]:
            self._draw(object_id)
        else:
            self._name(object_id)
        return match.end() - at

    def _draw(self, object_id: int | None) -> None:
        """Give a `<|seg|>` to its object, or to the next free id, and name it."""
        is_new = object_id is None or object_id not in self._known
        if self._drawn >= MAX_OBJECTS or (is_new and self._room <= 0):
            self.seg_ids.append(None)
            if object_id is not None:
                self._name(object_id)
            return
        if object_id is None:
            object_id = self._next_id
        self._drawn += 1
        self._room -= is_new
        self._known.add(object_id)
        self._next_id = max(self._next_id, object_id + 1)
        self.seg_ids.append(object_id)
        self._name(object_id)

    def _name(self, object_id: int) -> None:
        # A space keeps the name a mention: "ball@2" would read as an address.
        if _WORD_CHARACTER.match(self.text[-1:]):
            self.text += " "
        start = len(self.text)
        self.text += f"@{object_id}"
        self.spans.append(Span(start, len(self.text), object_id))
        self._after_name = True

    def _write(self, text: str) -> None:
        if self._after_name and _WORD_CHARACTER.match(text):
            self.text += " "
        self.text += text
        self._after_name = False


def parse_answer(
    raw: str, used_ids: Iterable[int] = (), *, retired_ids: Iterable[int] = (), max_new: int = MAX_OBJECTS
) -> ParsedAnswer:
    """Parse a whole answer with its `<|seg|>` markers; see `AnswerParser`."""
    parser = AnswerParser(used_ids, retired_ids=retired_ids, max_new=max_new)
    parser.feed(raw)
    parser.finish()
    return parser.result()
