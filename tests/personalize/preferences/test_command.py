"""Tests of `personalize extract` as a whole: options, artifact, notes."""

from pathlib import Path

import polars as pl
import pytest

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, ITEM_TEXTS, ITEMS, PREFERENCES, REJECTED
from personalize.__main__ import main
from personalize.preferences.aspects import DEFAULT_ASPECTS, read_aspects
from tests.personalize.preferences.scripted_server import Reply, scripted_server
from tests.personalize.preferences.small_reviews import small_tables


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return written(tmp_path / "tables", small_tables(users=2, length=4))


def written(folder: Path, interactions: pl.DataFrame) -> Path:
    items = [
        {
            "item_id": number,
            "item_key": f"B{number:03}",
            "title": f"Red soap number {number}",
            "brand": None,
            "categories": ["Beauty", "Bath", "Soap" if number % 2 else "Sponges"],
            "price_cents": None,
            "description": None,
        }
        for number in range(20)
    ]
    texts = [
        {
            "item_id": item["item_id"],
            "text": f"{item['title']}. Categories: {', '.join(item['categories'])}.",
            "source": "metadata",
        }
        for item in items
    ]
    with create_artifact(
        folder, kind="reviews", command="test", configuration={}, inputs={}
    ) as writer:
        writer.write_table(INTERACTIONS, interactions)
        writer.write_table(ITEMS, pl.DataFrame(items, schema=ITEMS.polars))
        writer.write_table(ITEM_TEXTS, pl.DataFrame(texts, schema=ITEM_TEXTS.polars))
    return folder


def test_reviews_become_an_artifact(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "preferences"
    command = ["extract", "--tables", str(tables), "--out", str(out), "--most", "2"]
    assert main(command) == 0
    artifact = read_artifact(out, kind="preferences")
    found = artifact.table(PREFERENCES)
    assert artifact.table(REJECTED).is_empty()
    assert 0 < found["preference_number"].max() < 2  # type: ignore[operator]
    assert artifact.manifest.notes["reviews"] == 6
    first = (out / "preferences.parquet").read_bytes()
    assert main([*command, "--overwrite"]) == 0
    assert (out / "preferences.parquet").read_bytes() == first


def test_items_speak_where_no_review_does(tmp_path: Path) -> None:
    silent = small_tables(users=3, length=5).with_columns(text=pl.lit(None, dtype=pl.String))
    tables = written(tmp_path / "tables", silent)
    out = tmp_path / "preferences"
    assert main(["extract", "--tables", str(tables), "--out", str(out)]) == 0
    found = read_artifact(out, kind="preferences").table(PREFERENCES)
    assert "Looks for soap (bath)." in found["text"].to_list()
    assert found["extractor_version"].unique().to_list() == ["1+item-metadata"]


def test_a_chat_server_reads_and_its_cost_is_noted(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "preferences"
    with scripted_server(lambda number, body: Reply()) as record:
        command = ["extract", "--tables", str(tables), "--out", str(out), "--extractor", "chat"]
        assert main([*command, "--url", record.url, "--model", "tiny"]) == 0
        asked = len(record.bodies)
    notes = read_artifact(out, kind="preferences").manifest.notes
    assert (notes["calls"], notes["reviews"]) == (asked, 6)
    assert notes["tokens_in"] == 10 * asked
    assert (tmp_path / "preferences.answers.sqlite").is_file()


def test_a_dry_run_writes_and_calls_nothing(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["extract", "--tables", str(tables), "--out", str(tmp_path / "out")]
    assert main([*command, "--extractor", "chat", "--model", "tiny", "--dry-run"]) == 0
    assert "6 reviews: 0 answers cached, 6 calls to make" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--most", "0"], "--most must be at least 1, got 0."),
        (["--dry-run"], "--dry-run estimates calls; --extractor extractive makes none."),
        (["--extractor", "chat", "--model", "x"], "--extractor chat needs --url and --model."),
        (["--extractor", "local"], "--extractor local needs --model"),
        (
            ["--extractor", "chat", "--url", "http://h", "--model", "x", "--concurrency", "0"],
            "--concurrency must be at least 1, got 0.",
        ),
        (
            ["--extractor", "chat", "--url", "http://h", "--model", "x", "--api-key-env", "NO_KEY"],
            "--api-key-env names NO_KEY, which is not set.",
        ),
        (["--aspects", "missing.yaml"], "Cannot read the aspects missing.yaml"),
    ],
)
def test_bad_options_get_one_sentence(
    tables: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    command = ["extract", "--tables", str(tables), "--out", str(tmp_path / "out")]
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aspects: [", "are no YAML"),
        ("aspects: {}", "aspects: Dictionary should have at least 1 item"),
        ("aspects: {price: {liked: a, avoided: b, like: [x]}}", r"aspects\.price\.avoid: Field"),
        ("colours: 3", "Field required"),
    ],
)
def test_a_bad_list_of_aspects_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "aspects.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_aspects(tmp_path / "aspects.yaml")


def test_words_turn_round_after_a_negation() -> None:
    count = read_aspects(DEFAULT_ASPECTS).cues.count
    assert count("It is sturdy").signs == {"durability": 1}
    assert count("It is not really sturdy").signs == {"durability": -1}
    assert count("It is not cheap, sturdy though").signs == {"durability": 1}
    assert count("I cannot stand noisy things").signs == {"sound": -1}
    assert count("There\u2019s no noise").signs == {"sound": 1}
