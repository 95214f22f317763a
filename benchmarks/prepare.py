"""How fast and how lean `data-prep amazon14` is beside a plain gzip, json and pandas loop.

Both read the same generated file, drop duplicates, take the iterated 5-core, sort by person and
time, split and number, and write users, items and interactions with their texts as Parquet. The
loop is what people write: `gzip.open`, `json.loads` a line, a DataFrame, `groupby`, `to_parquet`
with pandas' own settings (snappy; ours is zstd, which takes longer and less space). Only ours
checks every value and keeps a row for each bad line, writes item texts, and hashes input and
output. `loop_reading_only` is the same loop stopped before it writes.

Each runs in a process of its own. Its peak memory is what the operating system reports of that
process alone (`VmHWM`; the peak of `getrusage` is that of the parent if it was larger). With
`--repeats` they take turns and the fastest run of each counts.

    python benchmarks/prepare.py --reviews 1000000 --json
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SENTENCE_COUNT = 40_000
CHUNK = 50_000

PEAK = """
import resource, sys, time
started = time.perf_counter()
def used(kept, before_writing=0.0):
    own = resource.getrusage(resource.RUSAGE_SELF)
    peak = own.ru_maxrss
    try:
        with open("/proc/self/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except OSError:
        pass
    sys.stdout.write(f"{peak} {own.ru_utime + own.ru_stime:.2f} {kept} {before_writing:.2f}")
"""

OURS = """
from data_prep.__main__ import main
status = main(["amazon14", "--reviews", sys.argv[1], "--out", sys.argv[2], "--overwrite",
               "--threads", sys.argv[3]])
from pathlib import Path
import json
notes = json.loads((Path(sys.argv[2]) / "manifest.json").read_text())["notes"]
used(notes["reviews"]["kept"])
sys.exit(status)
"""

PLAIN = """
import gzip, json, os
import pandas as pd
rows = []
with gzip.open(sys.argv[1], "rt", encoding="utf-8") as lines:
    for line in lines:
        r = json.loads(line)
        rows.append((r["reviewerID"], r["asin"], r["unixReviewTime"], r["overall"],
                     r.get("summary"), r.get("reviewText")))
names = ["user", "item", "time", "rating", "summary", "text"]
frame = pd.DataFrame(rows, columns=names)
del rows
frame = frame.drop_duplicates(["user", "item", "time", "text"])
while True:
    size = len(frame)
    frame = frame[frame.groupby("user")["user"].transform("size") >= 5]
    frame = frame[frame.groupby("item")["item"].transform("size") >= 5]
    if len(frame) == size:
        break
frame = frame.sort_values(["user", "time"], kind="stable")
frame["position"] = frame.groupby("user").cumcount()
from_end = frame.groupby("user")["user"].transform("size") - frame["position"]
frame["split"] = "train"
frame.loc[from_end == 2, "split"] = "validation"
frame.loc[from_end == 1, "split"] = "test"
users, items = frame["user"].astype("category"), frame["item"].astype("category")
frame["user_id"], frame["item_id"] = users.cat.codes, items.cat.codes
before_writing = time.perf_counter() - started
os.makedirs(sys.argv[2], exist_ok=True)
for name, keys in (("users", users.cat.categories), ("items", items.cat.categories)):
    pd.DataFrame({"key": keys}).to_parquet(os.path.join(sys.argv[2], f"{name}.parquet"))
frame.drop(columns=["user", "item"]).to_parquet(
    os.path.join(sys.argv[2], "interactions.parquet"), index=False
)
used(len(frame), before_writing)
"""


def generated_file(reviews: int, folder: Path) -> Path:
    """A file of so many reviews in the layout of 2014, made once and kept.

    People and items follow heavy-tailed counts, so that the 5-core drops a part; texts are a few
    sentences of words drawn by Zipf's law, about 500 characters on average.
    """
    path = folder / f"reviews_generated_{reviews}.json.gz"
    if path.is_file():
        return path
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = ["".join(random.choice(letters, size)) for size in random.integers(2, 11, 20_000)]
    places = np.minimum(random.zipf(1.25, (SENTENCE_COUNT, 14)) - 1, len(vocabulary) - 1)
    sentences = [
        " ".join(vocabulary[place] for place in row[: 6 + number % 9]).capitalize() + "."
        for number, row in enumerate(places)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with gzip.open(temporary, "wb", compresslevel=3) as stream:
        for start in range(0, reviews, CHUNK):
            count = min(CHUNK, reviews - start)
            stream.write(_lines(random, sentences, count, reviews).encode())
    temporary.rename(path)
    return path


def _lines(random: np.random.Generator, sentences: list[str], count: int, reviews: int) -> str:
    users = (random.pareto(1.3, count) * reviews / 60).astype(int) % (reviews // 4)
    items = (random.pareto(1.1, count) * reviews / 400).astype(int) % (reviews // 12)
    times = random.integers(1_100_000_000, 1_400_000_000, count) // 86_400 * 86_400
    stars = random.choice([1, 2, 3, 4, 5], count, p=[0.06, 0.05, 0.09, 0.2, 0.6])
    lengths = random.geometric(1 / 8, count)
    lines = []
    for row in range(count):
        chosen = random.integers(0, len(sentences), lengths[row])
        record = {
            "reviewerID": f"A{users[row]:013d}",
            "asin": f"B{items[row]:09d}",
            "reviewerName": "A. Person",
            "helpful": [0, 0],
            "reviewText": " ".join(sentences[place] for place in chosen),
            "overall": float(stars[row]),
            "summary": sentences[chosen[0]][:40],
            "unixReviewTime": int(times[row]),
            "reviewTime": "01 1, 2014",
        }
        lines.append(json.dumps(record))
    return "\n".join(lines) + "\n"


def measured(program: str, arguments: list[str], reviews: int, threads: int) -> dict[str, float]:
    """Seconds, processor seconds, rows per second and peak memory of one program.

    On a shared machine the processor seconds tell more than the seconds on the wall.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": str(threads),
        "POLARS_MAX_THREADS": str(threads),
    }
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PEAK + program, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    seconds = time.perf_counter() - start
    peak, processor, kept, before_writing = done.stdout.split()
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": float(processor),
        "rows_per_s": round(reviews / seconds),
        "peak_mb": round(int(peak) / 1024, 1),
        "kept": int(kept),
        "seconds_before_writing": float(before_writing),
    }


def fastest(runs: list[dict[str, float]]) -> dict[str, float]:
    """The run that took the least time on the wall, with the largest peak of all."""
    best = min(runs, key=lambda run: run["seconds"])
    return {**best, "peak_mb": max(run["peak_mb"] for run in runs)}


def comparison(ours: dict[str, float], plain: dict[str, float]) -> dict[str, Any]:
    """The plain loop's figures and ours against them; a ratio of speed above 1 favours us."""
    before_writing = plain.pop("seconds_before_writing")
    return {
        "plain": plain,
        "speed_ratio": round(plain["seconds"] / ours["seconds"], 2),
        "processor_ratio": round(plain["processor_seconds"] / ours["processor_seconds"], 2),
        "memory_ratio": round(ours["peak_mb"] / plain["peak_mb"], 3),
        "loop_reading_only": {
            "seconds": before_writing,
            "speed_ratio": round(before_writing / ours["seconds"], 2),
        },
    }


def main() -> int:
    """Measure both and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--reviews", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "prepare_bench"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    path = generated_file(options.reviews, options.folder)
    shared = (options.reviews, options.threads)
    ours, plain = [], []
    for _ in range(options.repeats):
        tables = [str(path), str(options.folder / "tables"), str(options.threads)]
        ours.append(measured(OURS, tables, *shared))
        if not options.ours_only:
            plain.append(measured(PLAIN, [str(path), str(options.folder / "plain")], *shared))
    result: dict[str, Any] = {
        "reviews": options.reviews,
        "threads": options.threads,
        "file_mb": round(path.stat().st_size / 2**20, 1),
        "ours": fastest(ours),
    }
    del result["ours"]["seconds_before_writing"]
    if plain:
        result.update(comparison(result["ours"], fastest(plain)))
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:14} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
