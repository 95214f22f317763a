"""Chains of items that name files: edits, a negative, a critic; each read, applied and checked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_prep.artifact import create_artifact, read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from personalize.evaluation.goal_space import GoalDimension, GoalSpace
from personalize.rewards.critic import Critic
from personalize.rewards.stored_critic import write_critic
from personalize.steering.chain import Chain, Edits, Guidance, Lookahead, Selection
from personalize.steering.edits import ActivationMap
from personalize.steering.goals import Goals
from personalize.steering.stored_maps import write_maps
from recsys.critic_reader import CriticReader
from recsys.goals import POPULARITY, PRICE, ItemGoals
from recsys.load import LoadedRecommender, load_recommender
from recsys.opened_chain import OpenedChain, opened_chain
from recsys.proposals import proposer
from recsys.recommender import Recommendations
from recsys.retriever.generative import GenerativeRetriever
from recsys.steered import ItemRequest, SteeredItems
from tests.recsys.served_world import small_batch_of, write_checkpoint

SPACE = GoalSpace(
    (
        GoalDimension(PRICE, "", "dearer", 0.0, 1.0),
        GoalDimension(POPULARITY, "", "met more often", 0.0, 1.0),
    )
)


@pytest.fixture(scope="module")
def loaded(one_world) -> LoadedRecommender:
    return load_recommender(one_world.root / "mender_emb")


@pytest.fixture(scope="module")
def causal(one_world) -> LoadedRecommender:
    return load_recommender(one_world.root / "causal")


def item_goals(count: int) -> ItemGoals:
    generator = torch.Generator().manual_seed(1)
    return ItemGoals(
        SPACE.names,
        torch.rand(count, 2, generator=generator),
        torch.ones(count, 2, dtype=torch.bool),
        torch.zeros(count, 1),
        torch.zeros(count, 1),
    )


def asked(loaded: LoadedRecommender, rows: int = 3) -> ItemRequest:
    goals = Goals(
        torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.9]])[:rows],
        torch.tensor([[True, False], [True, False], [False, True]])[:rows],
    )
    batch = small_batch_of(loaded.catalogue, rows=rows)
    return ItemRequest(batch, torch.full((rows,), -1), goals, 4)


def answers(loaded: LoadedRecommender, opened: OpenedChain, request=None) -> Recommendations:
    steered = SteeredItems(
        proposer(loaded.recommender, width=12),
        item_goals(loaded.catalogue.item_count),
        SPACE,
        opened,
    )
    with torch.no_grad():
        return steered.recommend(request or asked(loaded)).found


def maps_for(loaded: LoadedRecommender, out: Path, *, names=(PRICE,), scale=3.0) -> Path:
    """Maps on the encoder's last norm that stretch what it says and move it aside."""
    named = dict(loaded.recommender.named_modules())
    module = next(name for name in ("encoder.norm", "encoder.norm_out") if name in named)
    width = next(named[module].parameters()).shape[0]
    one = ActivationMap(torch.full((width,), scale), torch.linspace(-2, 2, width))
    with create_artifact(
        out,
        kind="activation_maps",
        command="test",
        configuration={},
        inputs={"checkpoint": read_manifest(loaded.folder).content_hash},
    ) as writer:
        write_maps(writer, {name: {module: one} for name in names})
    return out


@pytest.mark.parametrize("half", ["loaded", "causal"])
@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_edits_change_answers_row_by_row_and_leave_no_hook(half, weight, request, tmp_path):
    loaded = request.getfixturevalue(half)
    folder = maps_for(loaded, tmp_path / "maps")
    chain = Chain(edits=Edits(folder, 1.0), guidance=Guidance(weight))
    opened = opened_chain(chain, loaded)
    plain = answers(loaded, opened_chain(replace(chain, edits=Edits()), loaded))
    found = answers(loaded, opened)
    assert not torch.equal(found.scores[:2], plain.scores[:2])
    torch.testing.assert_close(found.scores[2], plain.scores[2])  # popularity has no maps
    again = answers(loaded, opened_chain(replace(chain, edits=Edits()), loaded))
    assert torch.equal(again.scores, plain.scores)
    whole = asked(loaded)
    for row in range(3):
        part = slice(row, row + 1)
        one = replace(
            whole, batch=whole.batch.rows(part), aspects=whole.aspects[part],
            goals=whole.goals.rows(part),
        )  # fmt: skip
        alone = answers(loaded, opened, one)
        torch.testing.assert_close(alone.scores[0], found.scores[row], atol=1e-4, rtol=1e-4)


def test_edits_are_as_strong_as_the_change_and_never_more_than_whole(loaded, tmp_path):
    folder = maps_for(loaded, tmp_path / "maps")
    opened = opened_chain(Chain(edits=Edits(folder, 2.0)), loaded)
    amounts = []
    model = loaded.recommender
    batch = small_batch_of(loaded.catalogue, rows=3)
    assert isinstance(model, GenerativeRetriever)
    with torch.no_grad():
        plain, _ = model.encode(batch)
        for change in (0.0, 0.25, 0.5, 0.8):
            with opened.editing(model, SPACE.names, torch.tensor([[change, 0.9]] * 3)):
                edited, _ = model.encode(batch)
            amounts.append(float((edited - plain).norm()))
    assert amounts[0] == 0.0
    assert amounts[2] == pytest.approx(2 * amounts[1], rel=1e-3)
    assert amounts[3] == pytest.approx(amounts[2], rel=1e-5)


def test_a_critic_adds_its_value_in_units_of_its_spread(loaded, tmp_path):
    reader = CriticReader.of(loaded)
    request = asked(loaded)
    context, actions = reader.context(request.batch), reader.actions()
    torch.manual_seed(0)
    critic = Critic(context.state.shape[1], context.preference.shape[1], actions.shape[1])
    write_critic(
        tmp_path / "critic",
        critic,
        command="test",
        configuration={},
        inputs={"checkpoint": read_manifest(loaded.folder).content_hash},
        facts={},
    )
    selection = Selection(critic=tmp_path / "critic", critic_weight=5000.0)
    chain = Chain(lookahead=Lookahead(1.0), selection=selection)
    found = answers(loaded, opened_chain(chain, loaded))
    values = critic.eval()(actions[found.item_ids], context)
    everything = critic(actions.expand(3, -1, -1), context)
    assert (values.diff(dim=1) <= 1e-4).all()  # so heavy that it alone decides among candidates
    assert (values[:, 0] > everything.mean(1)).all()
    plain = answers(loaded, opened_chain(replace(chain, selection=Selection()), loaded))
    light = replace(selection, critic_weight=0.0)
    none = answers(loaded, opened_chain(replace(chain, selection=light), loaded))
    assert torch.equal(none.item_ids, plain.item_ids)


def test_guidance_moves_away_from_a_negative(loaded, one_world, tmp_path):
    other = tmp_path / "world"
    other.mkdir()
    for name in ("tables", "vectors", "semantic_ids", "preferences"):
        (other / name).symlink_to(one_world.root / name)
    negative = write_checkpoint(other, "mender_emb", seed=9)
    chain = Chain(guidance=Guidance(3.0, negative), lookahead=Lookahead(1.0))
    found = answers(loaded, opened_chain(chain, loaded))
    own = answers(loaded, opened_chain(replace(chain, guidance=Guidance(3.0)), loaded))
    assert not torch.equal(found.scores, own.scores)
    neutral = answers(
        loaded, opened_chain(replace(chain, guidance=Guidance(1.0, negative)), loaded)
    )
    plain = answers(loaded, opened_chain(replace(chain, guidance=Guidance()), loaded))
    assert torch.equal(neutral.scores, plain.scores)


def test_what_does_not_fit_is_refused(loaded, causal, one_world, tmp_path):
    folder = maps_for(loaded, tmp_path / "maps")
    with pytest.raises(ArtifactMismatch, match="checkpoint"):
        opened_chain(Chain(edits=Edits(folder, 1.0)), causal)
    with pytest.raises(InputError, match=r"guidance\.negative must generate semantic IDs"):
        opened_chain(Chain(guidance=Guidance(2.0, one_world.root / "causal")), loaded)
    with pytest.raises(InputError):
        opened_chain(Chain(edits=Edits(tmp_path / "nothing", 1.0)), loaded)
    assert opened_chain(Chain(edits=Edits(tmp_path / "nothing", 0.0)), loaded).edits is None
