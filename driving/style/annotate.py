"""`driving annotate`: scenes in; samples, measures, labels, styles and preferences out."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_prep.artifact import Artifact, ArtifactWriter, create_artifact, file_sha256, read_artifact
from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS, StyleLabel
from data_prep.scenes.tables import DRIVER_STYLES, SCENES
from data_prep.schema import PREFERENCES, REJECTED
from driving.samples import SampleRules, choose_samples
from driving.scene_store import SceneStore
from driving.style.describe import describe
from driving.style.driver_preferences import Reading, driver_preferences
from driving.style.fuse import fuse
from driving.style.judge import Judgement, given_scale, judge_windows
from driving.style.measure_table import MEASURE_TABLE
from driving.style.reader import (
    VERSION,
    HeuristicExtractor,
    Judged,
    check_reader,
    judge,
    language_reader,
)
from driving.style.styledrive_file import write_styledrive_file
from driving.style.styledrive_labels import read_styledrive_labels, styledrive_labels
from driving.style.tables import SAMPLES, STYLES
from driving.style.thresholds import read_thresholds
from driving.style.truth import Agreement, agreement, macro_f1
from driving.style.vector import measure_columns
from driving.style.windows import SIZE, Windows, read_windows
from personalize.preferences.extract import ModelOptions, printable


@dataclass(frozen=True)
class AnnotateOptions:
    """What is looked at; see the command's `--help`."""

    stride_s: float = 1.0
    history_s: float = 1.0
    future_s: float = 4.0
    recorded_egos_only: bool = False
    thresholds: Path | None = None
    scale: Path | None = None
    labels: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Refuse spans of no length.

        Raises:
            InputError: If one is not positive.
        """
        if min(self.stride_s, self.history_s, self.future_s) <= 0:
            raise InputError("--stride-s, --history-s and --future-s must be positive.")

    @property
    def rules(self) -> SampleRules:
        """What makes a sample."""
        return SampleRules(
            history_s=self.history_s,
            future_s=self.future_s,
            stride_s=self.stride_s,
            recorded_egos_only=self.recorded_egos_only,
            tokens_only=bool(self.labels),
        )


@dataclass(frozen=True)
class Annotated:
    """Everything that is found before anything is written.

    Attributes:
        artifact: The scenes.
        samples: Table of samples.
        windows: What was measured of them.
        judged: What the rules make of them.
        read: What a language model makes of them, by sample; empty without one.
        imported: Labels that were given, by token.
        store: The same scenes, opened.
    """

    artifact: Artifact
    samples: pl.DataFrame
    windows: Windows
    judged: Judgement
    read: Mapping[int, Judged]
    imported: Mapping[str, StyleLabel] | None
    store: SceneStore


def run(
    *,
    scenes: Path,
    out: Path,
    overwrite: bool = False,
    reader: str = "none",
    **options: Any,  # noqa: ANN401
) -> int:
    """Write an artifact `styles` from an artifact `scenes`; returns the exit status.

    Args:
        scenes: Folder of the scenes.
        out: Folder of the new artifact.
        overwrite: Replace an artifact that is there.
        reader: A language model that judges beside the rules: `none`, `chat` or `local`.
        options: Fields of `AnnotateOptions`, and of `ModelOptions` for the language model.

    Raises:
        InputError: If the options do not fit one another or the scenes hold nothing to judge.
    """
    names = {field.name for field in fields(AnnotateOptions)}
    given = {name: options.pop(name) for name in names & set(options)}
    given["labels"] = tuple(given.get("labels") or ())
    chosen = AnnotateOptions(**given)
    model = ModelOptions(**options)
    check_reader(reader, model)
    thresholds = read_thresholds(chosen.thresholds)
    imported = _imported(chosen.labels)
    artifact = read_artifact(scenes, kind="scenes")
    samples = _samples(artifact, chosen.rules, imported)
    store = SceneStore.of(artifact, size=SIZE)
    windows = read_windows(store, samples, history_s=chosen.history_s, future_s=chosen.future_s)
    judged = judge_windows(windows, samples, thresholds, given_scale(chosen.scale))
    read, notes = _read(reader, model, out, (artifact, samples, windows, judged))
    found = Annotated(artifact, samples, windows, judged, read, imported, store)
    with create_artifact(
        out,
        kind="styles",
        command="driving annotate",
        configuration=_configuration(chosen, reader, model),
        inputs=_inputs(artifact, chosen),
        overwrite=overwrite,
    ) as writer:
        writer.write_json("thresholds", thresholds.model_dump())
        lines = _write(writer, found, chosen)
        writer.notes.update(notes)
    sys.stderr.write(f"{samples.height:,} windows of {_drivers(samples):,} drivers: {out}\n")
    sys.stderr.write("".join(f"  {line}\n" for line in lines))
    return 0


def _configuration(chosen: AnnotateOptions, reader: str, model: ModelOptions) -> dict[str, Any]:
    """The options as plain JSON values; files are among the inputs, by their hash."""
    plain = ("stride_s", "history_s", "future_s", "recorded_egos_only")
    values = {name: getattr(chosen, name) for name in plain}
    return values | {"reader": reader, "model": model.model}


def _inputs(artifact: Artifact, chosen: AnnotateOptions) -> dict[str, str]:
    inputs = {"scenes": artifact.content_hash}
    for number, path in enumerate(chosen.labels):
        inputs[f"labels {number}"] = file_sha256(path)
    if chosen.scale:
        inputs["scale"] = read_artifact(chosen.scale, kind="styles").content_hash
    return inputs


def _write(writer: ArtifactWriter, found: Annotated, chosen: AnnotateOptions) -> list[str]:
    """Write all tables; returns what is worth a line on the terminal."""
    samples, judged = found.samples, found.judged
    styles, measures = _styles(found), _measures(samples, found.windows)
    preferences = driver_preferences(
        samples,
        _readings(samples, judged, found.read),
        window_steps=round(chosen.future_s / found.store.step_s),
    )
    writer.write_table(SAMPLES, samples)
    writer.write_table(STYLES, styles)
    writer.write_table(MEASURE_TABLE, measures)
    writer.write_table(PREFERENCES, preferences)
    writer.write_table(REJECTED, _rejected(found.read))
    writer.write_arrays("styles", {"values": judged.style[0], "mask": judged.style[1]})
    writer.write_json("scale", judged.scale.to_json())
    writer.write_json("cuts", {name: vars(cut) for name, cut in judged.cuts.items()})
    writer.write_json("style_dimensions", list(STYLE_DIMENSIONS))
    named = styledrive_labels(found.store, samples, styles, measures)
    write_styledrive_file(writer.path("styledrive_labels.json"), named)
    writer.notes.update(_notes(samples, styles, found.windows))
    writer.notes["preferences"] = preferences.height
    if found.imported is not None:
        writer.notes["macro_f1_of_rules_against_labels"] = _against(styles)
    shares = writer.notes["label_shares"].items()
    lines = [", ".join(f"{100 * share:.1f} % {label}" for label, share in shares)]
    truth = _truth(found.artifact, samples, styles, judged)
    if truth is not None:
        writer.notes["truth"] = truth.notes()
        writer.notes["truth_lines"] = truth.lines()
        lines += truth.lines()
    return lines


def _imported(paths: Sequence[Path]) -> dict[str, StyleLabel] | None:
    """The labels of all files together; a later file wins. Nothing where there is no file."""
    if not paths:
        return None
    return {token: label for path in paths for token, label in read_styledrive_labels(path).items()}


def _samples(
    artifact: Artifact, rules: SampleRules, imported: Mapping[str, StyleLabel] | None
) -> pl.DataFrame:
    """The samples; with labels given, only those whose token they name."""
    samples = choose_samples(artifact, rules)
    if imported is None:
        return samples
    named = samples.filter(pl.col("token").is_in(list(imported)))
    if named.is_empty():
        raise InputError(
            f"--labels names no token of {artifact.folder}; prepare the logs it was made for."
        )
    return named.with_columns(sample_id=pl.int_range(pl.len(), dtype=pl.Int32))


def _read(
    reader: str,
    options: ModelOptions,
    out: Path,
    found: tuple[Artifact, pl.DataFrame, Windows, Judgement],
) -> tuple[dict[int, Judged], dict[str, Any]]:
    """What a language model makes of the windows, by sample; empty without one."""
    if reader == "none":
        return {}, {}
    artifact, samples, windows, judged = found
    locations = dict(artifact.table(SCENES).select("scene_id", "location").iter_rows())
    ids = samples["sample_id"].to_list()
    texts = {
        sample_id: describe(
            windows.values[row],
            windows.mask[row],
            windows.facts[row],
            windows.scenario_types[row],
            windows.neighbours[row],
            location=locations[scene_id],
        )
        for row, (sample_id, scene_id) in enumerate(samples.select("sample_id", "scene_id").rows())
    }
    values, mask = judged.style
    embedded = HeuristicExtractor(
        texts,
        {sample_id: (values[row], mask[row]) for row, sample_id in enumerate(ids)},
        {sample_id: judged.labelled[row].label for row, sample_id in enumerate(ids)},
    )
    extractor = language_reader(reader, options, embedded, out)
    return judge(extractor, texts), {"reader": extractor.notes()}


def _readings(
    samples: pl.DataFrame, judged: Judgement, read: Mapping[int, Judged]
) -> tuple[Reading, ...]:
    """The styles as the rules read them and, where one was asked, as a language model did."""
    rules = Reading(*judged.style, "heuristic", VERSION)
    others = [one for one in read.values() if one.extractor != "heuristic"]
    if not others:
        return (rules,)
    values, mask = np.zeros_like(rules.values), np.zeros_like(rules.mask)
    for row, sample_id in enumerate(samples["sample_id"]):
        if (one := read[sample_id]).extractor != "heuristic":
            values[row], mask[row] = one.values, one.mask
    return rules, Reading(values, mask, others[0].extractor, others[0].extractor_version)


def _styles(found: Annotated) -> pl.DataFrame:
    """The table `styles`; a label that was given stands above what was found."""
    rows = []
    for row, (sample_id, token) in enumerate(found.samples.select("sample_id", "token").rows()):
        ours = found.judged.labelled[row]
        theirs = found.read[sample_id].label if found.read else None
        fused = fuse(ours.label, theirs)
        given = found.imported.get(token) if found.imported and token else None
        rule = ours.rule if theirs is None else f"{ours.rule}; the reader says {theirs}"
        rows.append(
            {
                "sample_id": sample_id,
                "scenario_type": found.windows.scenario_types[row],
                "label": given or fused.label,
                "rule": f"given for token {token}; {rule}" if given else rule,
                "heuristic_label": ours.label,
                "reader_label": theirs,
                "needs_check": fused.needs_check,
            }
        )
    return pl.DataFrame(rows, schema=STYLES.polars)


def _measures(samples: pl.DataFrame, windows: Windows) -> pl.DataFrame:
    contexts = windows.contexts
    columns = {
        "sample_id": samples["sample_id"].to_list(),
        "leader": [context.leader for context in contexts],
        "road_class": [context.road_class for context in contexts],
        **measure_columns(windows.values, windows.mask),
    }
    return pl.DataFrame(columns, schema=MEASURE_TABLE.polars)


def _rejected(read: Mapping[int, Judged]) -> pl.DataFrame:
    """What readers threw away; the same refusal of the same scene is one row."""
    rows = [
        {
            "file": "styles.parquet",
            "line": refusal.review_id,
            "reason": refusal.reason,
            "excerpt": printable(refusal.excerpt),
        }
        for one in read.values()
        for refusal in one.refusals
    ]
    frame = pl.DataFrame(rows, schema=REJECTED.polars)
    return frame.unique(["file", "line", "reason"], keep="first", maintain_order=True)


def _drivers(samples: pl.DataFrame) -> int:
    return samples["driver_id"].n_unique()


def _notes(samples: pl.DataFrame, styles: pl.DataFrame, windows: Windows) -> dict[str, Any]:
    """Counts and shares for the manifest."""
    types = styles["scenario_type"].value_counts().sort("scenario_type")
    training = styles.filter(samples["split"] == "train")
    shown = training if training.height else styles
    return {
        "samples": samples.height,
        "drivers": _drivers(samples),
        "scenario_types": dict(types.iter_rows()),
        "label_shares": {
            label: round(float((shown["label"] == label).mean() or 0.0), 4)  # pyright: ignore[reportArgumentType]
            for label in STYLE_LABELS
        },
        "needs_check": int(styles["needs_check"].sum()),
        "with_leader": int(sum(context.leader for context in windows.contexts)),
    }


def _against(styles: pl.DataFrame) -> float:
    """Macro-F1 of what the rules say against the labels that were given."""
    confusion = np.zeros((3, 3))
    for given, ours in styles.select("label", "heuristic_label").iter_rows():
        confusion[STYLE_LABELS.index(given), STYLE_LABELS.index(ours)] += 1
    return round(macro_f1(confusion), 4)


def _truth(
    artifact: Artifact, samples: pl.DataFrame, styles: pl.DataFrame, judged: Judgement
) -> Agreement | None:
    """Agreement with the true styles; nothing where no driver has one."""
    if not artifact.has("driver_styles.parquet"):
        return None
    true = artifact.table(DRIVER_STYLES).select("scene_id", "track_id", "preset", "values")
    joined = samples.with_row_index("row").join(
        true, on=["scene_id", "track_id"], how="inner", maintain_order="left"
    )
    if joined.is_empty():
        return None
    kept = joined["row"].to_numpy()
    names = list(STYLE_LABELS)
    read = np.array([names.index(label) for label in styles["label"]])[kept]
    presets = np.array([names.index(preset) for preset in joined["preset"]])
    values, mask = judged.style
    return agreement(
        joined["driver_id"].to_numpy(),
        (read, presets),
        (values[kept], mask[kept]),
        np.array(joined["values"].to_list(), dtype=np.float32),
    )
