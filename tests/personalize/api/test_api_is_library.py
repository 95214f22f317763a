"""The API answers what a call of the library answers, to the last digit."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from driving.serving import Scenes
from personalize.api.configuration import Serving
from personalize.api.files import ServedFiles
from personalize.api.messages import ItemQuery, PlanRequest, ReadRequest
from personalize.api.ports import RequestRefused
from recsys import serving
from tests.driving.planning_artifacts import write_planning_artifacts
from tests.personalize.api.served_here import served
from tests.recsys.served_world import DrawnSentences, ServedWorld, make_served_world


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[ServedWorld]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "SentenceEncoder", DrawnSentences)
        yield make_served_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def scenes_source(world) -> Scenes:
    write_planning_artifacts(world.root / "driving")
    return Scenes(scenes=Path("driving/scenes"), styles=Path("driving/styles"))


@pytest.fixture(scope="module")
def client(world, scenes_source):
    configured = Serving(root=world.root, items=world.items(), scenes=scenes_source)
    with served(configured) as running, httpx.Client(base_url=running.address) as found:
        yield found


@pytest.fixture(scope="module")
def items(world):
    return world.opened()


@pytest.fixture(scope="module")
def scenes(world, scenes_source):
    return scenes_source.open(ServedFiles(world.root))


def same(answer: httpx.Response, expected: BaseModel | RequestRefused) -> None:
    """The answer over HTTP is the reply of the library."""
    if isinstance(expected, RequestRefused):
        error = answer.json()["error"]
        assert answer.status_code == expected.status
        assert (error["message"], error["param"]) == (str(expected), expected.param)
    else:
        assert answer.status_code == 200
        assert answer.json() == json.loads(expected.model_dump_json())


@pytest.fixture(scope="module")
def ids(items) -> list[str]:
    return [item.id for item in items.items("", start=0, count=200).items]


def wishes() -> st.SearchStrategy:
    said = st.sampled_from(["light things", "a quiet one", "Looks for good sound."])
    about = st.one_of(
        st.fixed_dictionaries({"text": said}),
        st.fixed_dictionaries({"attribute": st.sampled_from(["price", "sound", "nonsense"])}),
    )
    how = st.fixed_dictionaries(
        {
            "polarity": st.sampled_from(["like", "avoid"]),
            "strength": st.floats(0, 1, allow_subnormal=False),
        }
    )
    return st.lists(st.builds(lambda a, b: a | b, about, how), max_size=3)


@settings(max_examples=60)
@given(data=st.data())
def test_retrieval_over_http_is_the_librarys(client, items, ids, data):
    some = st.lists(st.sampled_from([*ids, "no-such-item"]), max_size=4)
    asked = {
        "history": data.draw(some),
        "preferences": data.draw(wishes()),
        "mode": data.draw(st.sampled_from(["dense", "generative", "hybrid"])),
        "k": data.draw(st.integers(1, 40)),
        "filters": {
            "deny": data.draw(some),
            "seen": data.draw(st.sampled_from(["include", "exclude"])),
            "most_price_cents": data.draw(st.sampled_from([None, 2000])),
        },
        "explain": data.draw(st.booleans()),
    }
    answer = client.post("/v1/retrieve", json=asked)
    same(answer, items.retrieve([ItemQuery.model_validate(asked)])[0])


@settings(max_examples=8)
@given(
    speed=st.floats(-1, 1, allow_subnormal=False),
    preset=st.sampled_from(["conservative", "aggressive", None]),
    seed=st.integers(0, 3),
)
def test_a_plan_over_http_is_the_librarys(client, scenes, speed, preset, seed):
    scene = scenes.scenes("", start=0, count=1).scenes[0].id
    styles = [{"name": "mine", "style": {"speed": speed}}, {"name": "other", "preset": preset}]
    asked = {"scene": scene, "styles": styles, "seed": seed}
    answer = client.post("/v1/plan", json=asked)
    same(answer, scenes.plan([PlanRequest.model_validate(asked)])[0])


@settings(max_examples=15)
@given(
    texts=st.lists(
        st.sampled_from(
            [
                "Light enough to carry all day. The strap hurts my shoulder.",
                "Great sound, but far too expensive!",
                "ok",
                "!?",
            ]
        ),
        min_size=1,
        max_size=3,
    )
)
def test_reading_over_http_is_the_librarys(client, items, texts):
    asked = {"reviews": [{"text": text, "rating": 4} for text in texts]}
    same(client.post("/v1/preferences", json=asked), items.read(ReadRequest.model_validate(asked)))


def test_single_things_over_http_are_the_librarys(client, items, scenes, ids):
    same(client.get(f"/v1/items/{ids[3]}"), items.item(ids[3]))
    user = items.users("", start=0, count=1).users[0]
    same(client.get(f"/v1/users/{user}"), items.user(user))
    scene = scenes.scenes("", start=0, count=1).scenes[0].id
    same(client.get(f"/v1/scenes/{scene}"), scenes.scene(scene))
    asked = {"scene": scene}
    same(client.post("/v1/preferences", json=asked), scenes.read(ReadRequest.model_validate(asked)))
