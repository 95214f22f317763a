"""Tests of preferences read from item metadata."""

from personalize.preferences.items import (
    Choice,
    ItemSettings,
    Trait,
    item_snapshots,
    item_traits,
    kept_traits,
)

TEXT = "OPI Nail Lacquer, Red. Categories: Beauty, Makeup, Nails, Nail Polish."
POLISH = (
    Trait("category", "Looks for nail polish (makeup, nails).", 57, 68),
    Trait("title", "opi", 0, 3),
)
SOAP = (Trait("category", "Looks for soap.", 0, 4),)
SHOPPER = [Choice(10, 0), Choice(11, 1), Choice(12, 0), Choice(13, 1)]


def test_the_evidence_of_a_trait_stands_in_the_text() -> None:
    categories = ["Beauty", "Makeup", "Nails", "Nail Polish"]
    traits = list(item_traits(TEXT, "OPI Nail Lacquer, Red", "OPI", categories))
    assert traits[0].text == "Looks for nail polish (makeup, nails)."
    quoted = [TEXT[trait.start : trait.end] for trait in traits]
    assert quoted == ["Nail Polish", "OPI", "OPI", "Nail", "Lacquer", "Red"]


def test_an_item_without_text_or_with_odd_letters_has_no_wrong_trait() -> None:
    assert list(item_traits(None, "A title", None, ["Beauty"])) == []
    text = "İİ straße. Categories: Beauty, Soap."
    traits = list(item_traits(text, "İİ straße", None, ["Beauty", "Soap"]))
    assert [text[t.start : t.end] for t in traits if t.aspect == "category"] == ["Soap"]


def test_a_title_word_counts_only_when_it_tells_items_apart() -> None:
    traits = {n: (Trait("title", "red", 0, 3), Trait("title", f"w{n}", 4, 6)) for n in range(12)}
    kept = kept_traits(traits, ItemSettings(least_items=10, greatest_share=1.0))
    assert {trait.text for found in kept.values() for trait in found} == {"red"}
    assert not any(kept_traits(traits, ItemSettings(least_items=13)).values())


def test_snapshots_by_hand() -> None:
    traits = {0: POLISH, 1: SOAP}
    found = list(item_snapshots(5, SHOPPER, traits, ItemSettings(half_life=1.0)))
    assert [snapshot[0].valid_from for snapshot in found] == [1, 2, 3]
    last = {p.text: p for p in found[-1]}
    assert list(last) == [
        "Looks for nail polish (makeup, nails).",
        'Looks for things called "opi".',
        "Looks for soap.",
    ]
    assert last["Looks for soap."].strength == round(0.5 / 1.5, 3)
    assert [e.source_id for e in last['Looks for things called "opi".'].evidence] == [10, 12]


def test_nothing_at_or_after_a_position_is_looked_at() -> None:
    traits = {0: POLISH, 1: SOAP}
    before = list(item_snapshots(5, SHOPPER, traits, ItemSettings()))
    changed = [*SHOPPER[:2], Choice(12, 1), Choice(13, 0)]
    after = list(item_snapshots(5, changed, traits, ItemSettings()))
    assert before[:2] == after[:2]
    assert before[2] != after[2]
    for snapshot in before:
        for preference in snapshot:
            assert all(e.source_id < 10 + preference.valid_from for e in preference.evidence)


def test_a_disliked_item_was_no_choice() -> None:
    choices = [Choice(1, 0, 2.0), Choice(2, 1, 5.0), Choice(3, 0, 5.0)]
    found = list(item_snapshots(5, choices, {0: POLISH, 1: SOAP}, ItemSettings()))
    assert [[p.text for p in snapshot] for snapshot in found] == [["Looks for soap."]]
