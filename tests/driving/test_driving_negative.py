"""The negative copy of a planner, and a planner that is guided away from it."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.__main__ import main
from driving.contrastive import ContrastivePlanner
from driving.load import load_planner
from driving.negative import (
    SceneDenoiser,
    encoded_scenes,
    negative_planner,
    noise_schedule,
    training_contexts,
    truncated_planner_loss,
)
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.diffusion_decoder import TIME_FEATURES
from driving.planner.ego_mlp import EgoMlp
from driving.planner.planner import Plans, StyleCondition
from personalize.checkpoint import KIND, WEIGHTS
from personalize.negative_copy import FineTuning
from tests.driving.planner_fixtures import (
    SMALL,
    no_style,
    random_scene,
    random_style,
)
from tests.driving.planning_artifacts import STARTS, write_planning_artifacts

CLASS = "driving.planner.diffusion.DiffusionPlanner"


def planner(guidance: float = 1.0) -> DiffusionPlanner:
    """Random weights, the style's way in included, which begins at 0."""
    torch.manual_seed(0)
    made = DiffusionPlanner(guidance=guidance, **SMALL)
    torch.nn.init.normal_(made.decoder.modulation.weight, std=0.2)
    for name, weight in made.decoder.outer.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.normal_(weight, std=0.3)
    return made.eval()


def time_and_style(made: DiffusionPlanner) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of what the time says and of what the style says, in the decoder's condition."""
    weight = made.decoder.condition.get_parameter("0.weight")
    return weight[:, :TIME_FEATURES], weight[:, TIME_FEATURES:]


def other_decoder(made: DiffusionPlanner) -> DiffusionPlanner:
    """A planner with the same encoder and anchors whose decoder says something else."""
    worse = copy.deepcopy(made)
    with torch.no_grad():
        for weight in worse.decoder.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return worse


def deafen(made: DiffusionPlanner) -> None:
    """Let a decoder answer the same whatever the noise and its step."""
    with torch.no_grad():
        made.decoder.noisy.weight.zero_()
        time_and_style(made)[0].zero_()


def equal(one: Plans, other: Plans) -> bool:
    return torch.equal(one.poses, other.poses) and torch.equal(one.scores, other.scores)


def test_contrast_of_weight_one_is_the_planner_and_of_zero_the_negative_one_without_style():
    made = planner()
    worse = other_decoder(made)
    scene, style = random_scene(), random_style(5)
    plain = made.plan(scene, style, seed=4)
    assert equal(ContrastivePlanner(made, worse, 1.0).plan(scene, style, seed=4), plain)
    none = worse.plan(scene, no_style(5), seed=4)
    found = ContrastivePlanner(made, worse, 0.0).plan(scene, style, seed=4)
    assert torch.equal(found.poses, none.poses)
    assert not torch.allclose(plain.poses, none.poses, atol=1e-2)


def test_contrast_with_itself_is_classifier_free_guidance():
    made = planner(guidance=2.5)
    scene, style = random_scene(), random_style(5)
    guided = made.plan(scene, style, seed=4)
    found = ContrastivePlanner(made, made, 2.5).plan(scene, style, seed=4)
    assert torch.allclose(found.poses, guided.poses, atol=1e-3)
    assert torch.allclose(found.scores, guided.scores, atol=1e-3)


def test_contrast_of_a_batch_is_that_of_its_rows():
    made = planner()
    contrast = ContrastivePlanner(made, other_decoder(made), 2.0)
    scene, style = random_scene(), random_style(5)
    whole = contrast.plan(scene, style, seed=1)
    for row in range(5):
        one = contrast.plan(
            scene.rows(slice(row, row + 1)), style.rows(slice(row, row + 1)), seed=1
        )
        assert torch.allclose(one.poses[0], whole.poses[row], atol=1e-4)


def test_planners_with_other_anchors_are_no_contrast():
    made, other = planner(), planner()
    other.anchors.add_(1.0)
    with pytest.raises(ValueError, match="need the same anchors; make the negative one"):
        ContrastivePlanner(made, other, 2.0)


def test_the_denoiser_is_what_the_planner_was_trained_as():
    """Its answers are those of the planner's own loss: the same anchors, noise and time."""
    made = planner()
    scene, style = random_scene(2), random_style(2)
    encoded = made.encoder(scene)
    denoiser = SceneDenoiser.of(made, encoded, style)
    noise = torch.randn(2, 4, 8, 2)
    step = torch.tensor([7, 7])
    noisy = noise_schedule(made).noised(made.clean[..., :2], noise, 7)
    shares = made.signal[7]
    assert torch.allclose(noisy, shares.sqrt() * made.clean[..., :2] + (1 - shares).sqrt() * noise)
    seen = made.decoder.see(encoded.tokens, encoded.mask)
    (said,) = made.decoder(noisy, made.clean, step.float(), style, seen)
    poses = made.anchors + said.offsets * made.unit
    expected = (poses[..., :2] - made.centre_m) / made.scale_m
    assert torch.allclose(denoiser(noisy, step), expected, atol=1e-6)


def test_a_student_that_says_the_same_as_an_unmoved_reference_has_nothing_to_learn():
    """A decoder that answers the same whatever the noise is its own negative."""
    made = planner()
    deafen(made)
    encoded = made.encoder(random_scene(3))
    denoiser = SceneDenoiser.of(made, encoded, random_style(3))
    torch.manual_seed(1)
    loss = truncated_planner_loss(denoiser, denoiser, noise_schedule(made))
    shares = denoiser.answer(torch.zeros(3, 4, 8, 2), torch.zeros(3).long()).logits.softmax(-1)
    entropy = -(shares * shares.log()).sum(-1).mean()
    assert float(loss.detach()) == pytest.approx(float(entropy.detach()), abs=1e-4)


def test_only_the_decoder_of_the_copy_is_trained_and_the_planner_stays_as_it_is():
    made = planner()
    before = copy.deepcopy(made.state_dict())
    worse = negative_planner(
        made, random_scene(6), random_style(6), FineTuning(steps=2, batch_size=4)
    )
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    changed = {
        name.split(".")[0]
        for name, value in worse.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"decoder"}
    assert all(weight.requires_grad for weight in worse.parameters())


def test_the_planners_own_dropout_hides_styles_from_the_copy():
    made, scene, settings = planner(), random_scene(6), FineTuning(steps=2, batch_size=4)
    made.style_dropout = type(made.style_dropout)(whole=1.0)
    hidden = negative_planner(made, scene, random_style(6), settings, told=True).state_dict()
    none = negative_planner(made, scene, no_style(6), settings, told=True).state_dict()
    assert all(torch.equal(value, none[name]) for name, value in hidden.items())


def test_scenes_are_encoded_the_same_a_few_at_a_time(monkeypatch):
    made, scene = planner(), random_scene(5)
    whole = encoded_scenes(made, scene)
    monkeypatch.setattr("driving.negative.ENCODED_AT_ONCE", 2)
    parts = encoded_scenes(made, scene)
    assert torch.allclose(parts.tokens, whole.tokens, atol=1e-5)
    assert torch.equal(parts.mask, whole.mask)


def _gap(one: DiffusionPlanner, style: StyleCondition, other: DiffusionPlanner) -> float:
    """How far what one says under a style is from what another says under none, in metres."""
    scene = random_scene(len(style.values), seed=5)
    mine = one.plan(scene, style, seed=2).poses
    return float((mine - other.plan(scene, no_style(len(style.values)), seed=2).poses).abs().mean())


def test_a_copy_of_a_reference_that_is_told_nothing_forgets_the_style_and_a_told_one_keeps_it():
    made = planner()
    made.style_dropout = type(made.style_dropout)(whole=0.0, dimension=0.0)
    deafen(made)
    with torch.no_grad():  # much of the style
        made.decoder.modulation.weight.mul_(4)
        time_and_style(made)[1].mul_(3)
    scenes, styles = random_scene(24), random_style(24)
    settings = FineTuning(steps=20, batch_size=16, learning_rate=1e-3)
    asked = random_style(6, seed=3)
    before = _gap(made, asked, made)
    forgetful = negative_planner(made, scenes, styles, settings)
    told = negative_planner(made, scenes, styles, settings, told=True)
    assert _gap(forgetful, asked, made) < 0.6 * before
    assert _gap(told, asked, made) > 0.8 * before


def test_what_was_driven_is_not_looked_at(artifacts: dict[str, Path], checkpoint: Path):
    """Contexts are scenes and styles; there is no future among them."""
    scenes, styles = training_contexts(load_planner(checkpoint), 10)
    assert len(scenes.ego_size_m) == len(styles.values) == 10
    assert styles.mask[:, 0].all()
    assert not styles.mask[:, 1:].any()
    every, _ = training_contexts(load_planner(checkpoint), 10_000)
    assert len(every.ego_size_m) == 2 * 3 * len(STARTS)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> dict[str, Path]:
    return write_planning_artifacts(tmp_path_factory.mktemp("artifacts"))


def _write(folder: Path, class_path: str, options: dict, made, paths: dict[str, Path]) -> Path:
    """A checkpoint as a run would have written it."""
    weights = {f"{prefix}.{name}": value.contiguous().clone()
               for prefix in ("planner", "averaged")
               for name, value in made.state_dict().items()}  # fmt: skip
    data = {name: str(path) for name, path in paths.items()} | {"condition": "own"}
    chosen = {"class_path": class_path, "init_args": options}
    with create_artifact(
        folder, kind=KIND, command="driving fit", inputs={},
        configuration={"model": {"planner": chosen}, "data": data},
    ) as writer:  # fmt: skip
        writer.path(WEIGHTS).write_bytes(save(weights))
        writer.write_json("style", {"dimensions": list(STYLE_DIMENSIONS)})
    return folder


@pytest.fixture(scope="module")
def checkpoint(artifacts: dict[str, Path], tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "diffusion"
    return _write(folder, CLASS, SMALL, planner(), artifacts)


def test_the_command_writes_a_checkpoint_like_the_one_it_read(checkpoint: Path, tmp_path: Path):
    out = tmp_path / "negative"
    options = ["--checkpoint", str(checkpoint), "--out", str(out), "--steps", "2"]
    assert main(["negative", *options, "--contexts", "8", "--device", "cpu"]) == 0
    made, source = load_planner(out).planner, load_planner(checkpoint).planner
    assert isinstance(made, DiffusionPlanner)
    assert isinstance(source, DiffusionPlanner)
    assert torch.equal(made.anchors, source.anchors)
    scene, style = random_scene(), random_style(5)
    assert not torch.equal(made.plan(scene, style).poses, source.plan(scene, style).poses)
    manifest = read_artifact(out, kind=KIND).manifest
    assert manifest.command == "driving negative"
    assert manifest.inputs["checkpoint"] == read_artifact(checkpoint, kind=KIND).content_hash
    assert manifest.configuration["negative"] == {
        "checkpoint": str(checkpoint), "contexts": 8, "told": False, "steps": 2,
        "batch_size": 64, "learning_rate": 1e-4, "seed": 0,
    }  # fmt: skip


def test_other_artifacts_may_be_named(checkpoint: Path, artifacts, tmp_path: Path, capsys):
    options = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "negative")]
    assert main(["negative", *options, "--scenes", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_planner_that_does_not_denoise_is_refused(artifacts, tmp_path: Path, capsys):
    made = EgoMlp()
    folder = _write(tmp_path / "mlp", "driving.planner.ego_mlp.EgoMlp", {}, made, artifacts)
    options = ["--checkpoint", str(folder), "--out", str(tmp_path / "negative")]
    assert main(["negative", *options]) == 2
    assert "EgoMlp, which does not denoise; make a negative copy" in capsys.readouterr().err


def test_no_contexts_are_refused(checkpoint: Path, tmp_path: Path, capsys):
    options = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "negative")]
    assert main(["negative", *options, "--contexts", "0"]) == 2
    assert "--contexts must be at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(InputError, match="--steps must be at least 1"):
        FineTuning(steps=0)
