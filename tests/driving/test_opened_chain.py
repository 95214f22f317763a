"""Chains with what they name: edits, a critic and a negative, opened from their artifacts."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from data_prep.artifact import create_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.critic_data import critic_context, plan_features
from driving.goals import plan_space, told
from driving.load import load_planner
from driving.opened_chain import edit_towards, opened_chain
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.ego_mlp import EgoMlp
from driving.planner.guided_steps import guided_steps
from driving.planner.sub_score_heads import Selection as PickedBy
from driving.planner_input import planner_input
from personalize.rewards.critic import Critic
from personalize.rewards.stored_critic import write_critic
from personalize.steering.chain import Chain, Edits, Guidance, Lookahead, Selection
from personalize.steering.edits import ActivationMap, Maps, edited
from personalize.steering.goals import Goals
from personalize.steering.stored_maps import KIND, write_maps
from tests.driving.planner_fixtures import SMALL, random_style
from tests.driving.small_worlds import behind_leader, road, stack

SPACE = plan_space({"mean_speed": (0.0, 20.0), "peak_jerk": (0.0, 6.0), "progress": (-9.0, 9.0)})
WORLD = stack([road(speed_mps=9.0), behind_leader(gap_m=25.0)])
SCENE = planner_input(WORLD, WORLD.now)
STYLE = random_style(2, seed=5)


def checkpoint(folder: Path, planner: torch.nn.Module, sizes: dict) -> Path:
    kind = f"{type(planner).__module__}.{type(planner).__qualname__}"
    configuration = {"model": {"planner": {"class_path": kind, "init_args": sizes}}, "data": {}}
    with create_artifact(
        folder, kind="checkpoint", command="test", configuration=configuration, inputs={}
    ) as writer:
        named = {f"planner.{name}": v.contiguous() for name, v in planner.state_dict().items()}
        save_file(named, writer.path("weights.safetensors"))
        writer.write_json("style", {"dimensions": list(STYLE_DIMENSIONS)})
    return folder


def drawn(seed: int) -> DiffusionPlanner:
    torch.manual_seed(0)
    planner, generator = DiffusionPlanner(**SMALL), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in planner.parameters():
            weights.add_(0.2 * torch.randn(weights.shape, generator=generator))
    return planner.eval()


@pytest.fixture(scope="module")
def planner() -> DiffusionPlanner:
    return drawn(1)


def maps(planner: DiffusionPlanner, seed: int) -> Maps:
    width = SMALL["width"]
    generator = torch.Generator().manual_seed(seed)
    scale = 1 + 0.3 * torch.rand(width, generator=generator)
    return {"encoder.norm": ActivationMap(scale, torch.randn(width, generator=generator))}


def stored_maps(folder: Path, planner: DiffusionPlanner, names: tuple[str, ...]) -> Path:
    with create_artifact(
        folder, kind=KIND, command="test", configuration={}, inputs={"checkpoint": "mine"}
    ) as writer:
        write_maps(writer, {name: maps(planner, seed) for seed, name in enumerate(names)})
    return folder


def goals(speed: tuple[float, float], jerk: float) -> Goals:
    values = torch.tensor([[speed[0], jerk, 0.0], [speed[1], 0.0, 0.0]])
    return Goals(values, torch.tensor([[True, True, False], [True, False, False]]))


def test_edits_are_made_as_strongly_as_their_goals_ask(planner, tmp_path):
    folder = stored_maps(tmp_path / "maps", planner, ("speed", "jerk"))
    asked = goals((1.0, 0.25), 0.5)
    chain = Chain(edits=Edits(folder, 0.8))
    steered = opened_chain(planner, chain, SPACE, checkpoint_hash="mine")
    found = steered.plan_to(SCENE, STYLE, asked)
    # 1 is 0.8 forwards, 0.25 is 0.4 back, and 0.5 edits nothing
    with edited(planner, maps(planner, 0), torch.tensor([0.8, -0.4])):
        expected = planner.plan(SCENE, STYLE)
    torch.testing.assert_close(found.poses, expected.poses, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found.poses, planner.plan(SCENE, STYLE).poses, atol=1e-3)


def test_no_edit_opens_the_safety_gate(tmp_path):
    """What keeps a candidate out is judged of the scene as it is, not as it was edited."""
    planner = drawn(3)
    planner.sub_score_heads.known.fill_(value=True)
    planner.selection = PickedBy(safety_gate=0.999)
    folder = stored_maps(tmp_path / "maps", planner, ("speed",))
    steered = opened_chain(planner, Chain(edits=Edits(folder, 1.0)), SPACE, checkpoint_hash="mine")
    found = steered.plan_to(SCENE, STYLE, goals((1.0, 0.0), 0.5))
    judged = sub_scores_of_plans(planner, found.poses)
    with edited(planner, maps(planner, 0), torch.tensor([1.0, -1.0])):
        elsewhere = sub_scores_of_plans(planner, found.poses)
    assert torch.equal(found.scores.isfinite(), judged.isfinite())
    assert not torch.equal(judged.isfinite(), elsewhere.isfinite())


def sub_scores_of_plans(planner: DiffusionPlanner, poses: Tensor) -> Tensor:
    """Scores that the planner's selection gives to plans, `-inf` for those it keeps out."""
    scores = planner.sub_scores(SCENE, poses)
    merit = torch.zeros(poses.shape[:2])
    return planner.selection.scores(merit, scores, planner.sub_score_heads.known, STYLE)


def test_at_the_middle_and_where_nothing_is_asked_nothing_is_edited(planner):
    edit = edit_towards(planner, {"speed": maps(planner, 0)}, SPACE.names, 1.0)
    plain = planner.plan(SCENE, STYLE)
    with edit(goals((0.5, 0.5), 1.0)):
        found = planner.plan(SCENE, STYLE)
    assert torch.equal(found.poses, plain.poses)


def test_a_critic_is_asked_of_the_plan_in_the_style_that_was_told(planner, tmp_path):
    torch.manual_seed(3)
    state = planner.scene_vectors(SCENE).shape[1]
    critic = Critic(state, 24, 2 * len(STYLE_DIMENSIONS), width=8).eval()
    folder = tmp_path / "critic"
    inputs = {"checkpoint": "mine"}
    write_critic(folder, critic, command="test", configuration={}, inputs=inputs, facts={})
    chain = Chain(selection=Selection(critic=folder, critic_weight=1e6))
    asked = goals((0.9, 0.1), 0.4)
    found = opened_chain(planner, chain, SPACE, checkpoint_hash="mine").plan_to(SCENE, STYLE, asked)
    style = told(STYLE, asked, SPACE.names, strength=chain.telling.strength)
    worth = critic(plan_features(SCENE, found.poses), critic_context(planner, SCENE, style))
    worth = worth.masked_fill(found.scores == -torch.inf, -torch.inf)
    assert torch.equal(found.scores.argmax(1), worth.argmax(1))
    with pytest.raises(ArtifactMismatch, match="reads what another checkpoint encodes"):
        opened_chain(planner, chain, SPACE, checkpoint_hash="other")


def test_a_negative_is_loaded(planner, tmp_path):
    other = drawn(9)
    path = checkpoint(tmp_path / "worse", other, SMALL)
    chain = Chain(guidance=Guidance(2.0, path))
    found = opened_chain(planner, chain, SPACE).plan_to(SCENE, STYLE, goals((0.9, 0.1), 0.4))
    worse = load_planner(path).planner
    assert isinstance(worse, DiffusionPlanner)
    away = guided_steps(planner, SCENE, STYLE, weight=2.0, negative=worse)
    expected = planner.picked(SCENE, away.encoded, away.changes, away.logits, STYLE)
    torch.testing.assert_close(found.poses, expected.poses, atol=1e-5, rtol=1e-5)
    mlp = checkpoint(tmp_path / "mlp", EgoMlp(), {})
    with pytest.raises(InputError, match=r"guidance.negative must be a diffusion planner"):
        opened_chain(planner, Chain(guidance=Guidance(2.0, mlp)), SPACE)


def test_a_neutral_chain_opens_nothing(planner):
    nowhere = Path("nowhere")
    chain = Chain(
        edits=Edits(nowhere, 0.0),
        guidance=Guidance(1.0, nowhere),
        selection=Selection(critic=nowhere),
    )
    assert opened_chain(planner, chain, SPACE).neutral


def test_what_does_not_fit_is_refused(planner, tmp_path):
    with pytest.raises(InputError, match="Plans of EgoMlp cannot be steered; fit diffusion"):
        opened_chain(EgoMlp(), Chain(), SPACE)
    with pytest.raises(InputError, match=r"The chain does not fit the planner: chain.lookahead"):
        opened_chain(planner, Chain(lookahead=Lookahead(2.0)), SPACE)
    with pytest.raises(InputError, match="nowhere"):
        opened_chain(planner, Chain(guidance=Guidance(2.0, tmp_path / "nowhere")), SPACE)
    haste = stored_maps(tmp_path / "haste", planner, ("haste",))
    with pytest.raises(InputError, match="has maps for haste, which is no dimension of style"):
        opened_chain(planner, Chain(edits=Edits(haste, 1.0)), SPACE, checkpoint_hash="mine")
    with pytest.raises(ArtifactMismatch, match="was fitted to another checkpoint"):
        opened_chain(planner, Chain(edits=Edits(haste, 1.0)), SPACE, checkpoint_hash="other")
