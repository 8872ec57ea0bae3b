"""The memory bank: an immutable value that survives every trip, and refuses what is damaged."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unipixel.memory import PALETTE, ObjectMemoryBank, clean_label, color_of
from unipixel.types import Masklet


def masklet(object_id: int, frames: int = 4, height: int = 20, width: int = 30, label: str = "") -> Masklet:
    masks = np.zeros((frames, height, width), bool)
    masks[1:3, 2 : 5 + object_id % 10, 3:9] = True
    return Masklet(object_id, masks, np.linspace(0, 1, frames, dtype=np.float32), label)


@pytest.fixture
def bank() -> ObjectMemoryBank:
    return ObjectMemoryBank().with_object(masklet(1, label="cat"), origin="point").with_object(masklet(4))


def test_a_bank_is_a_mapping_in_order_of_ids(bank):
    more = bank.with_object(masklet(2))
    assert list(more) == [1, 2, 4]
    assert 4 in more
    assert 3 not in more
    assert more.get(3) is None
    assert (bank[1].label, bank[1].origin, bank[4].label) == ("cat", "point", "")
    with pytest.raises(KeyError):
        bank[2]


def test_masks_and_spans_come_back(bank):
    np.testing.assert_array_equal(bank[1].masks, masklet(1).masks)
    assert bank[1].masklet.label == "cat"
    assert bank[1].visible_spans() == bank[1].masklet.visible_spans() == [(1, 2)]
    assert bank[1].rles == masklet(1).to_rle()


def test_changes_leave_the_old_bank_alone(bank):
    before = bank.to_json()
    bank.with_object(masklet(9)), bank.without(1), bank.renamed(1, "dog"), bank.cleared()
    assert bank.to_json() == before
    with pytest.raises(AttributeError):
        bank.objects = ()


def test_ids_are_never_used_twice(bank):
    assert ObjectMemoryBank().next_id() == 1
    assert bank.next_id() == 5
    smaller = bank.without(4)
    assert smaller.next_id() == 5
    assert smaller.cleared().next_id() == 5
    with pytest.raises(ValueError, match=r"@4 was removed; its number"):
        smaller.with_object(masklet(4))
    assert ObjectMemoryBank.from_json(smaller.to_json()).next_id() == 5
    with pytest.raises(ValueError, match="used up"):
        ObjectMemoryBank().with_object(masklet(9999)).next_id()


def test_replacing_keeps_what_is_not_given(bank):
    changed = Masklet(1, ~masklet(1).masks)
    again = bank.renamed(1, "Tom").with_object(changed)
    assert (again[1].label, again[1].origin, again[1].color) == ("Tom", "point", bank[1].color)
    np.testing.assert_array_equal(again[1].masks, changed.masks)
    assert again.with_object(changed, label="Jerry", color=(1, 2, 3), origin="box")[1].color == (1, 2, 3)


def test_copies_are_equal(bank):
    for other in (copy.deepcopy(bank), pickle.loads(pickle.dumps(bank)), ObjectMemoryBank.from_json(bank.to_json())):
        assert other == bank
        assert hash(other) == hash(bank)
    assert bank != bank.without(1)
    assert bank != bank.without(1).with_object(masklet(5))


def test_an_object_takes_a_few_kilobytes():
    rows, columns = np.mgrid[:480, :854]
    disks = np.stack([(rows - 240) ** 2 + (columns - 100 - 20 * t) ** 2 < 90**2 for t in range(16)])
    bank = ObjectMemoryBank().with_object(Masklet(1, disks))
    assert len(pickle.dumps(bank)) < 12_000
    assert len(bank.to_json()) < 12_000


def test_no_more_than_32_objects():
    bank = ObjectMemoryBank()
    for object_id in range(1, 33):
        bank = bank.with_object(masklet(object_id))
    assert bank.room == 0
    bank = bank.with_object(masklet(32))
    with pytest.raises(ValueError, match="limit 32 objects"):
        bank.with_object(masklet(33))


def test_one_bank_belongs_to_one_media(bank):
    with pytest.raises(ValueError, match=r"@2 are 3 x 20 x 30 .* memory's are 4 x 20 x 30"):
        bank.with_object(masklet(2, frames=3))
    with pytest.raises(ValueError, match="at least one frame"):
        ObjectMemoryBank().with_object(Masklet(1, np.zeros((0, 4, 4), bool)))


def test_unknown_objects_are_refused(bank):
    for change in (lambda b: b.without(7), lambda b: b.renamed(7, "x")):
        with pytest.raises(ValueError, match="no object @7"):
            change(bank)
    with pytest.raises(ValueError, match="@1 was removed"):
        bank.without(1).renamed(1, "x")


@pytest.mark.parametrize(
    "label, clean",
    [("  a \n b ", "a b"), ("x\u202ey\x1b", "xy"), ("n" * 61, "n" * 59 + "…"), ("n" * 60, "n" * 60), ("\ud800", "")],
)
def test_labels_are_cleaned(bank, label, clean):
    assert clean_label(label) == bank.renamed(1, label)[1].label == clean


@pytest.mark.parametrize("label", [None, 3, b"x"])
def test_labels_must_be_text(bank, label):
    with pytest.raises(ValueError, match="must be text"):
        bank.renamed(1, label)


@pytest.mark.parametrize("color", [(1, 2), (1, 2, 256), (1, 2, 3.5), "red", (True, 1, 1)])
def test_colours_must_be_three_bytes(color):
    with pytest.raises(ValueError, match="between 0 and 255"):
        ObjectMemoryBank().with_object(masklet(1), color=color)


def test_colours_differ():
    assert len(set(PALETTE)) == len(PALETTE)
    assert color_of(1) == PALETTE[0] != color_of(2)
    assert color_of(0) in PALETTE


@given(hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))))
def test_any_masks_survive_json(masks):
    bank = ObjectMemoryBank().with_object(Masklet(1, masks))
    again = ObjectMemoryBank.from_json(bank.to_json())
    assert again == bank
    np.testing.assert_array_equal(again[1].masks, masks)
    np.testing.assert_array_equal(again[1].visible, masks.any((1, 2)))


# ---------------------------------------------------------------------------------------------------- damaged JSON


def damaged(change):
    data = json.loads(ObjectMemoryBank().with_object(masklet(1)).with_object(masklet(4)).to_json())
    change(data, data["objects"][0])
    return json.dumps(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda d, o: d.update(format="other"),
        lambda d, o: d.update(version=2),
        lambda d, o: d.update(retired=[1]),
        lambda d, o: d.update(retired=["1"]),
        lambda d, o: d.update(objects={}),
        lambda d, o: d.update(objects=[o] * 2),
        lambda d, o: d.update(objects=[{**o, "id": i} for i in range(33)]),
        lambda d, o: d["objects"].append(3),
        lambda d, o: o.pop("id"),
        lambda d, o: o.update(id=4),
        lambda d, o: o.update(id=-1),
        lambda d, o: o.update(id=1.0),
        lambda d, o: o.update(size=[20, 31]),
        lambda d, o: o.update(size=[20]),
        lambda d, o: o.update(size=[10**9, 10**9]),
        lambda d, o: o.update(size=[20.0, 30]),
        lambda d, o: o.update(counts=[]),
        lambda d, o: o.update(counts=["oooooooooooooooooooo"] * 4),
        lambda d, o: o.update(counts=[""] * 4),
        lambda d, o: o.update(counts=["é"] * 4),
        lambda d, o: o.update(counts=[5] * 4),
        lambda d, o: o.update(counts=o["counts"][:3]),
        lambda d, o: o.update(counts=o["counts"][:3], scores=o["scores"][:3]),
        lambda d, o: o.update(scores=[0.5] * 3 + [float("nan")]),
        lambda d, o: o.update(scores=[0.5] * 3 + [2]),
        lambda d, o: o.update(scores="1111"),
        lambda d, o: o.update(label=3),
        lambda d, o: o.update(color=[1, 2]),
        lambda d, o: o.update(color=None),
    ],
)
def test_damaged_json_is_refused(change):
    with pytest.raises(ValueError, match=r"[A-Z].*\.$"):
        ObjectMemoryBank.from_json(damaged(change))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "NaN", "[" * 100_000, '{"format": "unipixel-memory"}', None, b"{}"]
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"[A-Z].*\.$"):
        ObjectMemoryBank.from_json(text)


@given(st.text("0123456789PQRSTabcdefo", max_size=12))
def test_any_run_lengths_are_refused_or_decode(code):
    text = damaged(lambda d, o: (o.update(counts=[code], scores=[1], size=[4, 5]), d.update(objects=[o])))
    try:
        bank = ObjectMemoryBank.from_json(text)
    except ValueError:
        return
    assert bank[1].masks.shape == (1, 4, 5)


def test_long_clips_are_counted_without_decoding() -> None:
    masks = np.zeros((600, 4, 4), bool)
    masks[300:302, 1, 1] = True
    known = ObjectMemoryBank().with_object(Masklet(1, masks))[1]
    assert known.visible_spans() == [(300, 301)]
