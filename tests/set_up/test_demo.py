"""The demo runs the real command lines in order, keeps what is done and stops at a failure."""

import gzip
import json
import sys
from pathlib import Path

import demo
import demo_steps
import pytest

PROGRAM = """#!{python}
import json, pathlib, sys
words = sys.argv[1:]
with open("{log}", "a") as log:
    log.write(pathlib.Path(sys.argv[0]).name + " " + words[0] + "\\n")
if words[0] == pathlib.Path("{log}.fails").read_text():
    sys.exit("encode: the reviews hold no text; choose other reviews.")
option = "--run-folder" if "--run-folder" in words else "--out"
made = pathlib.Path(words[words.index(option) + 1])
made.mkdir(parents=True)
(made / "manifest.json").write_text(json.dumps(words))
if words[0] == "report":
    (made / "metrics.json").write_text(json.dumps(
        {{"headline": [{{"model": "popularity", "ndcg@10": 0.01}},
                       {{"model": "mender_emb", "ndcg@10": 0.1234567}}]}}))
"""

PATH = [
    "town",
    "extract",
    "encode",
    "tokenize",
    "benchmark",
    *["fit", "predict"] * len(demo.MODELS),
    "report",
]


class Stage:
    """A folder with programs that only remember that they were called."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.out, self.log = folder / "bin", folder / "out", folder / "log"
        self.bin.mkdir()
        self.fails("nothing")
        for name in ("data-prep", "personalize", "recsys"):
            program = self.bin / name
            program.write_text(PROGRAM.format(python=sys.executable, log=self.log))
            program.chmod(0o755)

    def fails(self, command: str) -> None:
        """Let one command end with a status that is not 0."""
        Path(f"{self.log}.fails").write_text(command)

    def run(self, *arguments: str) -> int:
        """Run the demo with these programs."""
        self.log.write_text("")
        return demo.main(["--out", str(self.out), "--bin", str(self.bin), *arguments])

    @property
    def called(self) -> list[str]:
        """The commands of the last run, in order."""
        return [line.split()[1] for line in self.log.read_text().splitlines()]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A stage with nothing done yet."""
    return Stage(tmp_path)


def test_the_whole_path_runs_in_order_and_ends_with_report_and_table(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.run() == 0
    assert stage.called == PATH
    said = capsys.readouterr().out
    assert "$ data-prep town --out" in said
    assert "model       ndcg@10\npopularity  0.0100\nmender_emb  0.1235" in said
    assert f"The report: {stage.out}/report/report.html" in said


def test_what_is_done_is_kept_and_a_changed_input_runs_again(stage: Stage) -> None:
    stage.run()
    assert stage.run() == 0
    assert stage.called == []
    (stage.out / "preferences" / "manifest.json").write_text("other")
    assert stage.run() == 0
    assert stage.called[:1] == ["encode"]
    assert "extract" not in stage.called
    assert stage.run("--fresh") == 0
    assert stage.called == PATH


def test_a_failure_stops_the_demo_and_the_next_run_goes_on_there(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.fails("encode")
    assert stage.run() == 1
    assert stage.called == ["town", "extract", "encode"]
    assert capsys.readouterr().err.splitlines()[-1] == (
        "demo: this step failed with status 1; its message stands above."
    )
    stage.fails("nothing")
    assert stage.run() == 0
    assert stage.called == PATH[2:]


def test_training_that_was_cut_off_keeps_its_folder_and_nothing_else_does(stage: Stage) -> None:
    stage.run()
    for made, words in [("preferences", "extract"), ("fit/sasrec", "fit")]:
        memory = (stage.out / made).with_name(f".{Path(made).name}.step")
        memory.write_text(f"begun {memory.read_text()}")
        left = stage.out / made / "left_over"
        left.touch()
        stage.fails(words)  # the program itself would refuse a folder that is there
        assert stage.run() == 1
        stage.fails("nothing")
        assert left.exists() == (words == "fit")


def test_a_folder_of_another_is_never_deleted(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = stage.out / "tables" / "photos"
    photos.mkdir(parents=True)
    assert stage.run("--fresh") == 1
    assert "is not of this demo; choose another --out" in capsys.readouterr().err
    assert photos.is_dir()


def test_missing_programs_say_what_to_do(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    (stage.bin / "data-prep").unlink()
    assert stage.run() == 1
    assert "run `make setup`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ('{"reviewerID": "A", "asin": "B", "helpful": [0, 1], "reviewText": "x"}', "amazon14"),
        ("{'reviewerID': 'A', 'asin': 'B', 'reviewText': 'it\\'s'}", "amazon14"),
        ('{"reviewerID": "A", "asin": "B", "verified": true, "reviewText": "x"}', "amazon18"),
        ('{"parent_asin": "B", "user_id": "A", "text": "x", "timestamp": 1}', "amazon23"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_year_is_known_by_the_first_line(
    tmp_path: Path, line: str, command: str, zipped: bool
) -> None:
    path = tmp_path / ("reviews.json.gz" if zipped else "reviews.json")
    content = (line + "\n{broken").encode()
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert demo.raw_format(path) == command
    assert demo.first_step(path, tmp_path, tiny=False).words[:4] == (
        "data-prep",
        command,
        "--reviews",
        str(path),
    )


@pytest.mark.parametrize("content", [b"", b"user,item\n1,2\n", b"[1, 2]\n", b"\xff\xfe\x00\n"])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reviews.json"
    path.write_bytes(content)
    with pytest.raises(demo_steps.DemoError, match="is no Amazon review of 2014, 2018 or 2023"):
        demo.raw_format(path)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(demo_steps.DemoError, match=r"cannot be read: No such file"):
        demo.raw_format(tmp_path / "none.json")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"x" * 1000)[:15])
    with pytest.raises(demo_steps.DemoError, match="cannot be read: Compressed file ended"):
        demo.raw_format(tmp_path / "cut.json.gz")


@pytest.mark.parametrize(
    ("reviews", "metadata"),
    [
        ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"),
        ("Beauty_5.json.gz", "meta_Beauty.json.gz"),
        ("Beauty.jsonl.gz", "meta_Beauty.jsonl.gz"),
        ("Beauty.jsonl", "meta_Beauty.jsonl"),
    ],
)
def test_metadata_beside_the_reviews_are_found(tmp_path: Path, reviews: str, metadata: str) -> None:
    assert demo.metadata_beside(tmp_path / reviews) is None
    (tmp_path / metadata).touch()
    assert demo.metadata_beside(tmp_path / reviews) == tmp_path / metadata


def test_a_changed_raw_file_runs_everything_again(stage: Stage, tmp_path: Path) -> None:
    reviews = tmp_path / "reviews_Toys_5.json.gz"
    line = {"reviewerID": "A", "asin": "B", "reviewText": "x"}
    reviews.write_bytes(gzip.compress(json.dumps(line).encode()))
    assert stage.run("--reviews", str(reviews)) == 0
    assert stage.called == ["amazon14", *PATH[1:]]
    reviews.write_bytes(gzip.compress(json.dumps({**line, "more": 1}).encode()))
    assert stage.run("--reviews", str(reviews)) == 0
    assert stage.called[0] == "amazon14"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"headline": []}', '{"other": 1}'])
def test_a_report_without_a_table_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(demo_steps.DemoError, match="holds no headline table"):
        demo_steps.headline(tmp_path)
