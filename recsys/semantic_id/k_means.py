"""k-means: centres that are each the mean of the points nearest to them."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

_CHUNK_ROWS = 16_384


def nearest_centre(
    points: Float[Tensor, "item width"], centres: Float[Tensor, "code width"]
) -> tuple[Int[Tensor, " item"], Float[Tensor, " item"]]:
    """Number of each point's nearest centre and the squared distance to it; of equals the first.

    Computed in chunks, so that the table of all distances never has to fit into memory.
    """
    norms = centres.square().sum(1)
    codes, distances = [], []
    for part in points.split(_CHUNK_ROWS):
        table = norms - 2.0 * part @ centres.T
        least, code = table.min(1)
        codes.append(code)
        distances.append((least + part.square().sum(1)).clamp_min(0.0))
    if not codes:
        return points.new_zeros(0, dtype=torch.long), points.new_zeros(0)
    return torch.cat(codes), torch.cat(distances)


def k_means(
    points: Float[Tensor, "item width"],
    *,
    centre_count: int,
    generator: Generator,
    iterations: int = 50,
) -> Float[Tensor, "code width"]:
    """Centres by k-means++ and Lloyd's iterations; an empty one moves to the worst-served point.

    Args:
        points: What is clustered.
        centre_count: Number of centres; with fewer distinct points, as many as there are points
            that differ.
        generator: Source of the draws of k-means++.
        iterations: Most iterations; they end earlier when no point changes its centre.

    Returns:
        The centres; never more than `centre_count`.

    Raises:
        ValueError: If `centre_count` is not positive or there are no points.

    Source:
        Lloyd, 1982, doi:10.1109/TIT.1982.1056489; Arthur and Vassilvitskii, 2007 (k-means++).
    """
    if centre_count < 1:
        raise ValueError(f"centre_count must be at least 1, got {centre_count}.")
    if not len(points):
        raise ValueError("points must hold at least one row.")
    centres = _spread_centres(points, centre_count, generator)
    codes = torch.full((len(points),), -1)
    for _ in range(iterations):
        new_codes, distances = nearest_centre(points, centres)
        if torch.equal(new_codes, codes):
            break
        codes = _fill_empty(new_codes, distances, len(centres))
        centres = _means(points, codes, len(centres))
    return centres


def _spread_centres(
    points: Float[Tensor, "item width"], count: int, generator: Generator
) -> Float[Tensor, "code width"]:
    """Points drawn one by one with a chance in proportion to their squared distance so far."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    chosen = [first]
    distances = (points - points[first]).square().sum(1)
    smallest = distances.max() * 1e-10  # nearer than this is the same point
    for _ in range(count - 1):
        distances = torch.where(distances > smallest, distances, 0.0)
        total = torch.cumsum(distances.double(), 0)
        if not bool(total[-1] > 0):
            break
        draw = torch.rand(1, generator=generator, dtype=torch.float64) * total[-1]
        place = int(torch.searchsorted(total, draw, right=True).clamp_max(len(points) - 1))
        if not bool(distances[place] > 0):  # the draw fell on the very end of the sum
            place = int(distances.argmax())
        chosen.append(place)
        distances = torch.minimum(distances, (points - points[place]).square().sum(1))
    return points[chosen]


def _fill_empty(
    codes: Int[Tensor, " item"], distances: Float[Tensor, " item"], centre_count: int
) -> Int[Tensor, " item"]:
    """Give every empty centre the point that is farthest from its own, each point once."""
    counts = torch.bincount(codes, minlength=centre_count)
    empty = torch.nonzero(counts == 0).flatten().tolist()
    if not empty:
        return codes
    codes = codes.clone()
    far = iter(torch.argsort(distances, descending=True, stable=True).tolist())
    for centre in empty:
        point = next((p for p in far if counts[codes[p]] > 1), None)
        if point is None:
            break
        counts[codes[point]] -= 1
        counts[centre] += 1
        codes[point] = centre
    return codes


def _means(
    points: Float[Tensor, "item width"], codes: Int[Tensor, " item"], centre_count: int
) -> Float[Tensor, "code width"]:
    sums = torch.zeros(centre_count, points.shape[1], dtype=points.dtype)
    sums.index_add_(0, codes, points)
    counts = torch.bincount(codes, minlength=centre_count)
    return sums / counts.clamp_min(1).to(points.dtype)[:, None]
