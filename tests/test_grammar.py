"""The dialogue grammar: golden prompts, text that cannot become control tokens, answers parsed in any pieces."""

from __future__ import annotations

import itertools
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unipixel import grammar
from unipixel.grammar import AnswerParser, parse_answer
from unipixel.types import Span

SHARED = Path(__file__).parents[2] / "shared"
CASES = SHARED / "parity" / "cases"
PROMPTS = SHARED / "bad_inputs" / "prompts_nasty.json"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="shared/parity is not here")
needs_prompts = pytest.mark.skipif(not PROMPTS.is_file(), reason="shared/bad_inputs is not here")


def golden(name: str) -> str:
    return json.loads((CASES / f"{name}.json").read_text())["text"]


def nasty_prompts() -> list[dict]:
    if not PROMPTS.is_file():
        return []
    return json.loads(PROMPTS.read_text())["prompts"]


def spell(parts: list) -> str:
    """The text of a nasty prompt, whose parts are strings, repeats and single UTF-16 units."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        elif "repeat" in part:
            text += part["repeat"] * part["times"]
        else:
            text += "".join(map(chr, part["utf16"]))
    return text


@pytest.fixture(scope="module")
def tokenizer():
    path = SHARED / "parity" / "tiny" / "tokenizer.json"
    if not path.is_file():
        pytest.skip("shared/parity is not here")
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer.from_file(str(path))
    # Qwen's own tokens that the tiny checkpoint lacks; they are not flagged special there either.
    made.add_tokens([tokenizers.AddedToken(t, normalized=False) for t in ("<tool_call>", "</tool_call>", "<think>")])
    made.add_tokens(
        [tokenizers.AddedToken(t, special=True) for t in ("<|fim_prefix|>", "<|fim_middle|>", "<|file_sep|>")]
    )
    return made


def control_ids(tokenizer, text: str) -> list[int]:
    added = set(tokenizer.get_added_tokens_decoder())
    return [i for i in tokenizer.encode(text).ids if i in added]


# ------------------------------------------------------------------------------------------------------- rendering


@needs_cases
@pytest.mark.parametrize(
    "name, question, ids",
    [
        ("c2_point_ref_video_frame3", "What is @1?", [1]),
        ("d_box_ref_video", "What is @1?", [1]),
        ("e_two_objects_point_box", "Do @1 and @2 move together?", [1, 2]),
    ],
)
def test_prefill_matches_the_original(name, question, ids):
    prefill = grammar.render_prefill_question(question, ids)
    answer = grammar.render_prefill_answer(prefill.ref_ids)
    assert grammar.render_conversation(prefill.text) + answer + "<|im_end|>\n" == golden(name)


@needs_cases
def test_injection_matches_the_original():
    memory = grammar.render_memory(6, False, {0: [(1, 2), (3, 4), (5, 6)], 1: [(3, 4)]})
    prompt = grammar.render_conversation(memory + grammar.render_question("What is @0 doing? Where is it?"))
    assert prompt + "[0] <|seg|><|im_end|>\n" == golden("f_mask_mem_video")
    memory = grammar.render_memory(1, True, {0: [(1, 1)]}, image_ranges=True)
    assert grammar.render_conversation(memory + grammar.render_question("Describe @0.")) == golden(
        "f2_gen_mask_mem_image"
    )


@needs_cases
def test_conversations_match_the_original():
    text = "Please segment the red ball in this image."
    assert grammar.segment_request("the red ball", is_image=True) == text
    assert grammar.render_conversation(text) == golden("g_generate_image")
    history = [("Where is the green box?", "The segmentation result is <|seg|>.")]
    assert grammar.render_conversation("Now segment the red ball.", history) == golden("g4_generate_video_second_turn")
    whole = grammar.render_conversation(text, as_image=True) + "The target is <|seg|>.<|im_end|>\n"
    assert whole == golden("a2_image_as_image")


def test_every_conversation_starts_with_the_prefix():
    for history in ([], [("a", "b")]):
        assert grammar.render_conversation("q", history).startswith(grammar.render_prefix())


def test_image_memory_has_no_frame_range():
    head = "Here is an image with the following highlighted regions:\n"
    assert grammar.render_memory(1, True, {3: [(1, 2)]}) == head + "[3]: <|mem|>\n"


def test_memory_leaves_out_invisible_objects():
    assert grammar.render_memory(4, False, {}) == grammar.render_memory(4, False, {1: []}) == ""
    text = grammar.render_memory(4, False, {1: [], 2: [(3, 4)]})
    assert text.endswith("are as follows:\n[2]: <3>-<4> <|mem|>\n")


@pytest.mark.parametrize(
    "visible, expected",
    [
        ([0, 0, 1, 0], [(1, 3, 4)]),
        ([1, 0, 1], [(0, 1, 2), (1, 3, 4)]),  # the patch of an odd clip's last frame keeps its full range
        ([1], [(0, 1, 2)]),
        ([0, 0], []),
    ],
)
def test_visible_patches(visible, expected):
    assert grammar.visible_patches([bool(v) for v in visible]) == expected


@pytest.mark.parametrize(
    "text, ids",
    [
        ("Where is @1 going?", [1]),
        ("@2, @1 and @2", [2, 1]),
        ("请问@1在哪里", [1]),
        ("mail a@1b or x@1", []),
        ("@1b @01 @12345 @@1 @", []),
        ("(@7)'s @9999.", [7, 9999]),
    ],
)
def test_mentions(text, ids):
    assert grammar.mentioned_ids(text) == ids
    rendered = grammar.render_question(text)
    assert all(f"[{object_id}]" in rendered for object_id in ids)
    assert ids or rendered == text


def test_prefill_marks_first_mentions_and_names_the_rest():
    prefill = grammar.render_prefill_question("Is @2 near @5? Is @2 red?", [1, 2, 3])
    assert prefill.text == (
        "Is [2] <|ref|> near [5]? Is [2] red? The marked objects are [1] <|ref|> and [3] <|ref|>. "
        "Please localize the relevant objects with IDs."
    )
    assert prefill.ref_ids == (2, 1, 3)
    assert grammar.render_prefill_question("", [4]).text == f"The marked object is [4] <|ref|>. {grammar.LOCALIZE}"


@given(st.lists(st.integers(0, 20), unique=True, max_size=8), st.text("@ 12<|ref>[]?a", max_size=40))
def test_prefill_has_one_ref_per_object_in_the_stated_order(ids, question):
    text, order = grammar.render_prefill_question(question, ids)
    assert sorted(order) == sorted(ids)
    assert text.count(grammar.REF_TOKEN) == len(ids)
    places = [text.index(f"[{object_id}] {grammar.REF_TOKEN}") for object_id in order]
    assert places == sorted(places)


@pytest.mark.parametrize("text", ["Where is it?", "find the cat", "", "把左边的猫分割出来。"])
def test_sentences_are_requests_already(text):
    assert grammar.segment_request(text, is_image=False) == text


# ------------------------------------------------------------------------------------------------------ typed text

control_text = st.lists(
    st.sampled_from(["<", "|", ">", "<|", "|>", "seg", "<|seg|>", "\u2060", "<tool_call>", "</", "think>", "@1", " "])
).map("".join)


@given(st.one_of(control_text, st.text()))
def test_defused_text_reads_back(text):
    assert grammar.undefuse(grammar.defuse(text)) == text


@given(control_text)
def test_defused_text_holds_no_control_string(text):
    defused = grammar.defuse(text)
    assert not grammar.CONTROL_PATTERN.search(defused)
    assert not grammar.CONTROL_PATTERN.search(grammar.render_question(text))
    assert not grammar.CONTROL_PATTERN.search(grammar.defuse(defused))


@given(control_text)
def test_defused_text_makes_no_control_id(tokenizer, text):
    assert control_ids(tokenizer, grammar.defuse(text)) == []


@needs_prompts
@pytest.mark.parametrize("prompt", nasty_prompts(), ids=lambda p: p["id"])
def test_nasty_prompts(tokenizer, prompt):
    text = spell(prompt["text"])
    if prompt["outcome"] == "reject":
        message = {"E_PROMPT_EMPTY": "Type a question", "E_PROMPT_LONG": "limit 4000"}[prompt["codes"][0]]
        with pytest.raises(ValueError, match=message):
            grammar.check_text(text)
        return
    clean, notices = grammar.check_text(text)
    assert bool(notices) == (prompt["outcome"] == "normalise")
    assert clean == text or notices
    clean.encode("utf-8")
    defused = grammar.defuse(clean)
    assert control_ids(tokenizer, defused) == []
    kept = grammar.undefuse(tokenizer.decode(tokenizer.encode(defused).ids, skip_special_tokens=False))
    assert kept == unicodedata.normalize("NFC", clean)
    # In its place in the prompt, too, it adds no control token to those of a harmless question.
    whole, harmless = (grammar.render_conversation(grammar.render_question(t)) for t in (clean, "hello"))
    assert control_ids(tokenizer, whole) == control_ids(tokenizer, harmless)


@needs_prompts
@pytest.mark.parametrize("prompt", nasty_prompts(), ids=lambda p: p["id"])
def test_spelled_controls_in_an_answer_draw_nothing(prompt):
    text = spell(prompt["text"])[:5000]
    parser = AnswerParser()
    shown = "".join(parser.feed_text(text[i : i + 3]) for i in range(0, len(text), 3)) + parser.finish()
    assert parser.seg_ids == []
    if prompt["outcome"] == "accept" and "parse_safe" in prompt["checks"]:
        assert shown == text


def test_removed_characters_and_kept_scripts():
    assert grammar.check_text("a\ud800b").text == "ab"
    assert grammar.check_text("ca\ud83d\ude00t").text == "ca😀t"
    scotland = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
    for kept in ("👩‍👩‍👧 family", "שלום", scotland, "नमस्ते", "line\n\ttwo"):
        assert grammar.check_text(kept) == (kept, ())
    assert grammar.check_text("cat\U000e0061").text == "cat"


@pytest.mark.parametrize("text", ["", " \t\u200b", "\u3164", "\x00\x1b", "\u2060", None, 3, b"hi", ["hi"]])
def test_text_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"Type a question|must be text"):
        grammar.check_text(text)


def test_text_length_limit_is_exact():
    assert grammar.check_text("x" * 4000).text == "x" * 4000
    with pytest.raises(ValueError, match="limit 4000"):
        grammar.check_text("x" * 4001)


# --------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "raw, used, text, seg_ids",
    [
        ("[1] <|seg|> [2] <|seg|>", [], "@1 @2", (1, 2)),
        ("It is <|seg|>.", [], "It is @1.", (1,)),
        ("It is <|seg|> and <|seg|>.", [1, 4], "It is @5 and @6.", (5, 6)),
        ("[2] is left of [1].", [1, 2], "@2 is left of @1.", ()),
        ("@3 <|seg|> runs", [], "@3 runs", (3,)),
        ("[1]<|seg|>", [1], "@1", (1,)),
        ("the ball<|seg|>s", [], "the ball @1 s", (1,)),
        ("[1][2]", [], "@1 @2", ()),
        ("[1]  <|seg|>", [1], "@1  @2", (2,)),
        ("There is no cat in the video.", [1], "There is no cat in the video.", ()),
        ("a@1b [x] [] [12345] @", [], "a@1b [x] [] [12345] @", ()),
        ("done<|im_end|><|endoftext|>", [], "done", ()),
        ("<b>2 < 3</b> <|", [], "<b>2 < 3</b> <|", ()),
        (grammar.defuse("you typed <|seg|>"), [], "you typed <|seg|>", ()),
        ("", [], "", ()),
    ],
)
def test_parse(raw, used, text, seg_ids):
    answer = parse_answer(raw, used)
    assert (answer.text, answer.seg_ids) == (text, seg_ids)


def test_spans_name_their_objects():
    answer = parse_answer("[2] <|seg|> chases [1].", [1])
    assert answer.spans == (Span(0, 2, 2), Span(10, 12, 1))


def test_removed_objects_are_neither_named_nor_drawn_again():
    answer = parse_answer("[3] and [3] <|seg|>", [1], retired_ids=[3])
    assert answer.text == "[3] and [3] @4"
    assert answer.seg_ids == (4,)


def test_too_many_objects_are_ignored():
    answer = parse_answer("<|seg|> " * 200)
    assert answer.seg_ids == (*range(1, 33), *[None] * 168)
    assert len(answer.spans) == 32
    assert parse_answer("[1] <|seg|> <|seg|> <|seg|>", [1], max_new=1).seg_ids == (1, 2, None)


alphabet = ["[1]", "[2", "]", " ", "@1", "@", "1", "[", "a", ".", "🙂", "\n", "\x00"]
alphabet += ["<|seg|>", "<|im_end|>", "<", "|", "<|", "|>", "seg", ">", "<b", "\u2060", "<\u2060|x", "<\u2060\u2060/b>"]
raw_pieces = st.lists(st.sampled_from(alphabet), max_size=25).map("".join)


@given(raw_pieces, st.data())
def test_streaming_equals_parsing_for_any_chunking(raw, data):
    whole = parse_answer(raw, [1])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    parser = AnswerParser([1])
    pieces = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)])]
    joined = "".join([parser.feed(piece) for piece in pieces] + [parser.finish()])
    assert joined == whole.text
    assert parser.result() == whole


@given(raw_pieces)
def test_spans_are_mentions_and_segs_are_kept(raw):
    answer = parse_answer(raw, [1])
    assert [answer.text[s.start : s.end] for s in answer.spans] == [f"@{s.object_id}" for s in answer.spans]
    assert {s.object_id for s in answer.spans} == set(grammar.mentioned_ids(answer.text))
    assert len(answer.seg_ids) == raw.replace("\x00", "").count("<|seg|>")


def test_ordinary_text_streams_at_once():
    parser = AnswerParser()
    assert parser.feed("The cat ") == "The cat "
    assert parser.feed("[") == ""
    assert parser.feed("1") == ""
    assert parser.feed("] is") == "@1 is"
