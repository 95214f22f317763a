"""The commands annotate and encode, on a small artifact written by hand."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from data_prep.schema import PREFERENCES
from driving.__main__ import main
from driving.scene_store import SceneStore
from driving.style.annotate import run as annotate
from driving.style.driver_preferences import Reading, driver_preferences
from driving.style.encode import before_vectors
from driving.style.encode import run as encode
from driving.style.measure_table import MEASURE_TABLE
from driving.style.styledrive_file import write_styledrive_file
from driving.style.styledrive_labels import read_styledrive_labels, styledrive_labels
from driving.style.tables import SAMPLES, STYLES
from driving.style.truth import agreement, macro_f1
from tests.driving.small_scenes import write_small_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_scenes(tmp_path_factory.mktemp("small") / "scenes")


@pytest.fixture(scope="module")
def styles(scenes: Path) -> Artifact:
    folder = scenes.with_name("styles")
    assert annotate(scenes=scenes, out=folder, stride_s=0.5, future_s=2.0) == 0
    return read_artifact(folder, kind="styles")


def test_annotate_writes_its_tables(styles: Artifact):
    samples, found = styles.table(SAMPLES), styles.table(STYLES)
    measures = styles.table(MEASURE_TABLE)
    assert samples.height == found.height == measures.height
    assert samples.height > 10
    ego = samples.filter(pl.col("track_id") == 0)["sample_id"].to_list()
    leads = measures.filter(pl.col("sample_id").is_in(ego))
    # the leader is 25 m ahead at the same speed, both are 4.5 m long: 20.5 m
    assert leads["smallest_gap_m"].to_numpy() == pytest.approx(20.5, abs=0.05)
    assert leads["mean_speed_mps"].to_numpy() == pytest.approx(10.0, abs=0.01)
    assert leads["leader"].all()
    assert found["reader_label"].null_count() == found.height
    assert not found["needs_check"].any()
    assert (found["rule"].str.len_chars() > 10).all()
    assert styles.manifest.notes["samples"] == samples.height
    assert set(styles.json("scale")) == {"fewest_samples", "median_deviation_samples"}


def test_annotating_twice_gives_the_same_bytes(scenes: Path, styles: Artifact, tmp_path: Path):
    annotate(scenes=scenes, out=tmp_path / "again", stride_s=0.5, future_s=2.0)
    again = read_artifact(tmp_path / "again", kind="styles")
    assert again.content_hash == styles.content_hash


def test_a_scale_of_other_scenes_can_be_used(scenes: Path, styles: Artifact, tmp_path: Path):
    out = tmp_path / "other"
    annotate(scenes=scenes, out=out, stride_s=0.5, future_s=2.0, scale=styles.folder)
    other = read_artifact(out, kind="styles")
    assert other.json("scale") == styles.json("scale")
    assert other.manifest.inputs["scale"] == styles.content_hash
    assert other.table(STYLES).equals(styles.table(STYLES))


def test_encode_keeps_what_was_before_apart(scenes: Path, styles: Artifact, tmp_path: Path):
    assert encode(styles=styles.folder, scenes=scenes, out=tmp_path / "vectors") == 0
    vectors = read_artifact(tmp_path / "vectors", kind="style_vectors").arrays("style_vectors")
    assert set(vectors) == {"own_values", "own_mask", "before_values", "before_mask", "label"}
    samples = styles.table(SAMPLES)
    assert vectors["own_values"].shape == (samples.height, 8)
    assert vectors["label"].tolist() == [1] * samples.height or set(vectors["label"]) <= {0, 1, 2}
    steps = samples["step"].to_numpy()
    early = steps < steps.min() + 20
    assert not vectors["before_mask"][early].any()
    assert not vectors["before_values"][~vectors["before_mask"]].any()


def test_encode_refuses_other_scenes(styles: Artifact, tmp_path: Path):
    other = write_small_scenes(tmp_path / "scenes")
    path = other / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"].pop("light_states.parquet")
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactMismatch, match="made from other scenes"):
        encode(styles=styles.folder, scenes=other, out=tmp_path / "vectors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride_s": 0.0}, "must be positive"),
        ({"future_s": 1.0}, "--future-s must be at least 1.5"),
        ({"reader": "chat"}, "--reader chat needs"),
        ({"future_s": 60.0}, "no vehicle that was seen"),
    ],
)
def test_annotate_refuses(scenes: Path, tmp_path: Path, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        annotate(scenes=scenes, out=tmp_path / "out", **options)


def test_the_door_says_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["annotate", "--scenes", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "is no artifact" in capsys.readouterr().err


def sample_rows(steps: list[tuple[int, int]]) -> pl.DataFrame:
    """Samples of (driver, step)."""
    return pl.DataFrame(
        [
            {
                "sample_id": number,
                "scene_id": 0,
                "track_id": driver,
                "step": step,
                "driver_id": driver,
                "split": "train",
                "token": None,
            }
            for number, (driver, step) in enumerate(steps)
        ],
        schema=SAMPLES.polars,
    )


def reading(values: list[float]) -> Reading:
    """Speeds of the samples; NaN where not read."""
    array = np.zeros((len(values), 8), dtype=np.float32)
    array[:, 0] = np.nan_to_num(values)
    mask = np.zeros(array.shape, dtype=bool)
    mask[:, 0] = ~np.isnan(values)
    return Reading(array, mask, "heuristic", "1")


def test_preferences_come_from_earlier_windows_of_the_same_driver():
    samples = sample_rows([(0, 0), (0, 20), (0, 40), (0, 60), (1, 80)])
    read = reading([0.5, 0.3, -0.9, -0.9, 0.8])
    found = PREFERENCES.conform(driver_preferences(samples, (read,), window_steps=40))
    assert found.select("subject_id", "valid_from").rows() == [(0, 40), (0, 60)]
    assert found["strength"].to_list() == pytest.approx([0.5, 0.4])
    assert found["polarity"].to_list() == ["like", "like"]
    assert found["confidence"].to_list() == pytest.approx([1 / 5, 2 / 6])
    assert found["evidence"][0].to_list() == [{"source_id": 0, "start": 0, "end": 41}]
    assert [e["source_id"] for e in found["evidence"][1].to_list()] == [0, 1]


def test_what_a_driver_does_later_changes_nothing_before():
    samples = sample_rows([(0, step) for step in range(0, 200, 10)])
    values = np.linspace(-0.9, 0.9, 20)
    kept = driver_preferences(samples, (reading(values.tolist()),), window_steps=40)
    for moment in (5, 12):
        changed = values.copy()
        step = moment * 10
        changed[[n for n in range(20) if n * 10 + 40 > step]] = 0.77
        other = driver_preferences(samples, (reading(changed.tolist()),), window_steps=40)
        at = pl.col("valid_from") <= step
        assert kept.filter(at).equals(other.filter(at))


def test_before_vectors_are_the_signed_strengths():
    samples = sample_rows([(0, 0), (0, 40), (0, 80)])
    known = driver_preferences(samples, (reading([-0.5, np.nan, 0.0]),), window_steps=40)
    values, mask = before_vectors(samples, known)
    assert values[:, 0].tolist() == [0.0, -0.5, -0.5]
    assert mask[:, 0].tolist() == [False, True, True]
    assert not mask[:, 1:].any()


def test_macro_f1_by_hand():
    assert macro_f1(np.array([[2.0, 0, 0], [0, 3, 0], [0, 0, 1]])) == 1.0
    # always normal over 1, 8, 1: precision 0.8, recall 1: F1 0.889; the others 0
    always = np.array([[0.0, 1, 0], [0, 8, 0], [0, 1, 0]])
    assert macro_f1(always) == pytest.approx(0.8889 / 3, abs=1e-4)


def test_agreement_of_perfect_and_of_opposite_reading():
    drivers = np.repeat(np.arange(12), 3)
    truth = np.repeat(np.linspace(-1, 1, 12), 3)[:, None].repeat(8, 1).astype(np.float32)
    labels = np.digitize(truth[:, 0], [-0.5, 0.5])
    mask = np.ones(truth.shape, dtype=bool)
    mask[:, 7] = False
    perfect = agreement(drivers, (labels, labels), (truth, mask), truth, resamples=50)
    assert perfect.macro_f1.mean == perfect.macro_f1.low == 1.0
    assert perfect.macro_f1_of_normal < 0.4
    assert set(perfect.rank_correlation) == set(STYLE_DIMENSIONS[:7])
    assert perfect.rank_correlation["speed"].mean == pytest.approx(1.0)
    assert perfect.drivers == 12
    opposite = agreement(drivers, (2 - labels, labels), (-truth, mask), truth, resamples=50)
    assert opposite.rank_correlation["speed"].mean == pytest.approx(-1.0)
    assert opposite.macro_f1.mean < 0.6
    json.dumps(perfect.notes())
    assert "12 simulated drivers" in perfect.lines()[0]


def test_agreement_needs_windows():
    none = np.zeros(0, dtype=np.int64)
    style = np.zeros((0, 8), dtype=np.float32)
    with pytest.raises(ValueError, match="at least one window"):
        agreement(none, (none, none), (style, style.astype(bool)), style)


def test_styledrive_labels_are_written_and_read(tmp_path: Path, scenes: Path, styles: Artifact):
    samples = styles.table(SAMPLES).with_columns(
        token=pl.concat_str(pl.lit("token-"), pl.col("sample_id").cast(pl.String))
    )
    tables = styles.table(STYLES), styles.table(MEASURE_TABLE)
    labels = styledrive_labels(SceneStore.read(scenes), samples, *tables)
    path = tmp_path / "styletrain.json"
    write_styledrive_file(path, labels)
    expected = dict(zip(samples["token"], tables[0]["label"], strict=True))
    assert read_styledrive_labels(path) == expected
    records = json.loads(path.read_text())
    whole = [record for record in records.values() if "yaw_diff" in record]
    short = [record for record in records.values() if "yaw_diff" not in record]
    assert whole  # seen for five seconds: every field
    assert all(len(record["v_ego"]) == 10 for record in whole)
    assert all({"v_avg", "a_max", "with_lead"} <= record.keys() for record in short)


def test_given_labels_choose_the_samples_and_stand_above(scenes: Path, tmp_path: Path):
    from data_prep.scenes.tables import SCENE_TOKENS

    folder = scenes_with_tokens(tmp_path, {20: "aaaa", 40: "bbbb"}, SCENE_TOKENS)
    path = tmp_path / "styletrain.json"
    path.write_text(json.dumps({"bbbb": {"ANC_result": "C"}, "cccc": {"ANC_result": "A"}}))
    annotate(scenes=folder, out=tmp_path / "styles", future_s=2.0, labels=[path])
    found = read_artifact(tmp_path / "styles", kind="styles")
    assert found.table(SAMPLES)["token"].to_list() == ["bbbb"]
    (row,) = found.table(STYLES).iter_rows(named=True)
    assert row["label"] == "conservative"
    assert row["rule"].startswith("given for token bbbb")
    assert found.json("styledrive_labels")["bbbb"]["ANC_result"] == "C"
    path.write_text(json.dumps({"dddd": {"ANC_result": "C"}}))
    with pytest.raises(InputError, match="names no token"):
        annotate(scenes=folder, out=tmp_path / "none", future_s=2.0, labels=[path])


def scenes_with_tokens(folder: Path, tokens: dict[int, str], schema) -> Path:
    """The small scenes with names for some steps."""
    from data_prep.artifact import file_sha256

    scenes = write_small_scenes(folder / "tokens")
    frame = pl.DataFrame(
        [{"scene_id": 0, "step": step, "token": token} for step, token in tokens.items()],
        schema=schema.polars,
    )
    path = scenes / "scene_tokens.parquet"
    frame.write_parquet(path)
    manifest = json.loads((scenes / "manifest.json").read_text())
    manifest["files"][path.name] = {
        "size_bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "rows": frame.height,
    }
    (scenes / "manifest.json").write_text(json.dumps(manifest))
    return scenes
