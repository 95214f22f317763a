"""Serve what the demos made, and print the address of the page.

    make serve                       both halves; what is missing is made first (about 10 minutes)
    make serve ONLY=recommendations  one half (about 2 minutes to make), or ONLY=driving

Every command is shown before it runs, and can be typed as it stands. Standard library only.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import demo
import demo_driving
from demo_steps import ROOT, DemoError, Step, made_whole, run

CONFIG = ROOT / "configs" / "personalize" / "serve.yaml"
HALVES = ("recommendations", "driving")


def recommendation_steps(root: Path, *, tiny: bool) -> list[Step]:
    """What is missing of a served recommender, and its index."""
    out = root / "demo"
    retriever = out / "fit" / "causal"
    needed = {out / name for name in ("tables", "preferences", "vectors", "semantic_ids")}
    path = demo.steps(None, out, tiny=tiny)
    missing = [] if made_whole(retriever) else _only(path, {*needed, retriever})
    vectors = root / "serve" / "item_vectors"
    words = ("recsys", "embed", "--checkpoint", str(retriever), "--out", str(vectors))
    embed = Step("Turn every item into the vector it is found by.", words, vectors, (retriever,))
    return [*missing, embed, _index(vectors, root / "serve" / "item_index")]


def driving_steps(root: Path, *, tiny: bool) -> list[Step]:
    """What is missing of a served planner, and the index of its scenes."""
    out = root / "demo-driving"
    planner, scenes, styles = out / "fit" / "diffusion", out / "scenes", out / "styles"
    needed = {scenes, styles, out / "style_vectors", out / "teacher", planner}
    path = demo_driving.steps(None, out, tiny=tiny)
    missing = [] if made_whole(planner) else _only(path, needed)
    vectors = root / "serve" / "scene_vectors"
    words = ("driving", "embed", "--checkpoint", str(planner), "--scenes", str(scenes))
    words += ("--styles", str(styles), "--splits", "test", "--out", str(vectors))
    reads = (planner, scenes, styles)
    embed = Step("Turn every scene into the vector it is found by.", words, vectors, reads)
    return [*missing, embed, _index(vectors, root / "serve" / "scene_index")]


def _only(path: Sequence[Step], needed: set[Path]) -> list[Step]:
    return [step for step in path if step.makes in needed]


def _index(vectors: Path, index: Path) -> Step:
    words = ("personalize", "index", "--vectors", str(vectors), "--out", str(index))
    return Step("Build the index that searches these vectors.", words, index, (vectors,))


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is missing, then become the server."""
    parser = argparse.ArgumentParser(description="Serve what the demos made.")
    parser.add_argument("--only", choices=HALVES, help="make what one half needs, not both")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of the demos")
    parser.add_argument(
        "--bin", type=Path, default=Path(".venv/bin"), help="folder of the console scripts"
    )
    parser.add_argument("--port", help="port to listen on; default: that of the configuration")
    parser.add_argument("--tiny", action="store_true", help="the smallest demos, a few steps")
    options = parser.parse_args(argv)
    os.chdir(ROOT)
    started = time.monotonic()
    path: list[Step] = []
    if options.only != "driving":
        path += recommendation_steps(options.root, tiny=options.tiny)
    if options.only != "recommendations":
        path += driving_steps(options.root, tiny=options.tiny)
    try:
        run(path, options.bin)
    except DemoError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 1
    print(f"\nEverything is there after {time.monotonic() - started:.0f} s.", flush=True)
    words = ["personalize", "serve", "--config", os.path.relpath(CONFIG)]
    words += ["--root", str(options.root)]
    words += ["--port", options.port] if options.port else []
    print(f"$ {shlex.join(words)}", flush=True)
    program = options.bin / words[0]
    return os.execv(program, [str(program), *words[1:]])


if __name__ == "__main__":
    sys.exit(main())
