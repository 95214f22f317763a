"""API keys: who is let in, how often, and what a file of keys may not be."""

import hashlib

import pytest
import yaml

from data_prep.errors import InputError
from personalize.api.errors import ApiError
from personalize.api.keys import ApiKeys, KeyEntry, make_key


def entry(key: str, **settings) -> KeyEntry:
    name = settings.pop("name", key)
    return KeyEntry(name=name, sha256=hashlib.sha256(key.encode()).hexdigest(), **settings)


def shown(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_known_key_is_found_and_without_any_everybody_is_let_in():
    keys = ApiKeys([entry("one"), entry("two", admin=True)])
    found = keys.entry_of(shown("two"))
    assert found is not None
    assert (found.name, found.admin) == ("two", True)
    assert ApiKeys([]).entry_of({}) is None
    assert not ApiKeys([]).wanted


@pytest.mark.parametrize(
    "headers",
    [{}, shown("three"), shown(""), {"authorization": "one"}, {"authorization": "Basic one"}],
)
def test_a_missing_or_wrong_key_is_refused(headers):
    with pytest.raises(ApiError, match="needs an API key") as refused:
        ApiKeys([entry("one")]).entry_of(headers)
    assert refused.value.status == 401
    assert refused.value.headers["WWW-Authenticate"] == "Bearer"


def test_every_hash_is_compared_whichever_fits(monkeypatch):
    compared: list[str] = []
    monkeypatch.setattr(
        "personalize.api.keys.hmac.compare_digest",
        lambda known, given: bool(compared.append(known)) or known == given,
    )
    keys = [entry(name) for name in ("one", "two", "three")]
    ApiKeys(keys).entry_of(shown("one"))
    assert compared == [key.sha256 for key in keys]


def test_a_rate_is_a_burst_and_then_so_many_a_second():
    now = [0.0]
    key = entry("one", requests_per_s=2.0, burst=3)
    keys = ApiKeys([key, entry("two")], clock_s=lambda: now[0])
    for _ in range(3):
        keys.count(key)
    with pytest.raises(ApiError, match="may ask 2 times a second") as refused:
        keys.count(key)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    now[0] = 0.5
    keys.count(key)
    with pytest.raises(ApiError):
        keys.count(key)
    now[0] = 1000.0
    for _ in range(3):
        keys.count(key)
    with pytest.raises(ApiError):
        keys.count(key)


def test_one_keys_rate_is_not_anothers():
    one, two = entry("one", burst=1, requests_per_s=0.001), entry("two")
    keys = ApiKeys([one, two], clock_s=lambda: 0.0)
    keys.count(one)
    keys.count(two)
    with pytest.raises(ApiError):
        keys.count(one)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {name: a, sha256: 'abc'}", "is no list of keys: 0.sha256"),
        ("- {name: a}", "is no list of keys: 0.sha256 Field required"),
        ("[]", "names no key"),
        ("just words", "is no list of keys"),
        ("- {name: a, sha256: '" + "0" * 64 + "', key: secret}", "Extra inputs"),
        ("a: [", "cannot be read"),
        ("- {name: a, since: 2026-99-99}", "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)
def test_a_file_that_is_no_list_of_keys_is_refused(tmp_path, text, message):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        ApiKeys.from_file(path)


def test_a_file_that_is_missing_or_repeats_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        ApiKeys.from_file(tmp_path / "none.yaml")
    path = tmp_path / "keys.yaml"
    first, second = entry("one").model_dump(), entry("two").model_dump()
    for field in ("name", "sha256"):
        path.write_text(yaml.safe_dump([first, second | {field: first[field]}]))
        with pytest.raises(InputError, match=f"gives one {field} to two keys"):
            ApiKeys.from_file(path)


def test_a_key_that_was_made_is_let_in_by_the_entry_that_was_printed(tmp_path, capsys):
    make_key(name="team a", admin=True)
    printed = capsys.readouterr()
    path = tmp_path / "keys.yaml"
    path.write_text(printed.out)
    key = printed.err.split("once: ")[1].split()[0]
    assert key not in printed.out
    found = ApiKeys.from_file(path).entry_of(shown(key))
    assert found is not None
    assert (found.name, found.admin) == ("team a", True)
