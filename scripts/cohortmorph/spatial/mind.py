"""The self-similarity context (MIND-SSC): how alike two images of different contrast are in their structure.

Heinrich et al., MICCAI 2013. Around each voxel the patches at two of its six neighbours, not opposite ones, are
compared: twelve distances D, each the mean squared difference over a patch. The descriptor is exp(−(D − min D) / V),
with V the mean of the twelve. It says where an image changes and not how, so that a CT and an MR can be compared.
The formula is that of the networks' loss, :func:`cohortmorph.learning.losses.mind`, without its TensorFlow.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.ndimage import maximum_filter

RADIUS = 1  # voxels from a patch's middle to its side
DILATION = 2  # voxels from the middle to its neighbours
REACH = RADIUS + DILATION
# V is at least a thousandth of its mean over the image, and, of images in [0, 1], noise of 0.001.
LEAST_SHARE, FLAT_PATCH = 1e-3, 1e-6
CHANNELS = 12
SLAB_VOXELS = 2_000_000  # looked at together, so that memory does not grow with the image


class SelfSimilarity:
    """The descriptor of one image, slab by slab.

    Parameters
    ----------
    image : array, shape (i, j, k)
        Prepared intensities (0 to 1); NaN where they are not known.

    Attributes
    ----------
    known : boolean array of that shape
        Whether all voxels that the descriptor looks at are.
    """

    def __init__(self, image: np.ndarray) -> None:
        unknown = ~np.isfinite(image)
        # Differences do not see the mean, but they lose digits to it.
        mean = image.mean(where=~unknown, dtype=float) if not unknown.all() else 0.0
        self.image = np.where(unknown, 0, image - mean).astype(np.float32)
        self.known = ~maximum_filter(unknown, 2 * REACH + 1) if unknown.any() else ~unknown
        total = sum(self._distances(*rows).mean(axis=0).sum(dtype=float) for rows in self.slabs())
        self.least = LEAST_SHARE * total / image.size

    def slabs(self) -> Iterator[tuple[int, int]]:
        """Give (first, one beyond the last) of the rows along the first axis that are looked at together."""
        length = self.image.shape[0]
        thick = max(1, SLAB_VOXELS // max(1, self.image[:1].size))
        for start in range(0, length, thick):
            yield start, min(start + thick, length)

    def _distances(self, start: int, stop: int) -> np.ndarray:
        """Return D, shape (12, stop - start, j, k); at the border the border's value, and the patch that there is."""
        first, last = max(0, start - RADIUS), min(self.image.shape[0], stop + RADIUS)
        around = [(axis, self._shifted(axis, step, first, last)) for axis in range(3) for step in (-DILATION, DILATION)]
        pairs = [(one, other) for (a, one), (b, other) in itertools.combinations(around, 2) if a != b]
        inside = _patch_sums(np.ones_like(around[0][1]))
        wanted = slice(start - first, stop - first)
        return np.stack([(_patch_sums((one - other) ** 2) / inside)[wanted] for one, other in pairs])

    def _shifted(self, axis: int, step: int, first: int, last: int) -> np.ndarray:
        """Return the rows `first` to `last` of the image at x + step along an axis."""
        if axis == 0:
            rows = np.clip(np.arange(first, last) + step, 0, self.image.shape[0] - 1)
            return self.image[rows]
        index = np.clip(np.arange(self.image.shape[axis]) + step, 0, self.image.shape[axis] - 1)
        return np.take(self.image[first:last], index, axis=axis)

    def descriptor(self, start: int, stop: int) -> np.ndarray:
        """Return the descriptor of these rows, shape (12, stop - start, j, k), in [0, 1]."""
        distances = self._distances(start, stop)
        variance = np.maximum(distances.mean(axis=0), self.least) + FLAT_PATCH
        return np.exp((distances.min(axis=0) - distances) / variance)


def mind_distance(fixed: SelfSimilarity, moved: SelfSimilarity, mask: np.ndarray) -> float:
    """Return the mean squared difference of two images' descriptors, in [0, 1]; 0 for equal contexts.

    Parameters
    ----------
    fixed, moved : SelfSimilarity
        Of images of one shape. Where the moved one is not known, its descriptor is taken to be spread as where it is,
        and independent of the fixed one, as in the NMI.
    mask : boolean array of that shape
        Where to compare.

    Returns
    -------
    float
        1 where nothing is known of the moved image; NaN for an empty mask.
    """
    if not mask.any():
        return float("nan")
    known = mask & moved.known
    if not known.any():
        return 1.0
    unknown = mask & ~moved.known
    total = 0.0
    # Of the moved image where it is known, and of the fixed one where it is not: n, Σ d and Σ d² a channel.
    moved_sums, fixed_sums = np.zeros((2, CHANNELS)), np.zeros((2, CHANNELS))
    for start, stop in fixed.slabs():
        rows = slice(start, stop)
        ours, theirs = fixed.descriptor(start, stop), moved.descriptor(start, stop)
        here = known[rows]
        total += np.square(ours - theirs).mean(axis=0)[here].sum(dtype=float)
        if unknown.any():
            for sums, of, where in ((moved_sums, theirs, here), (fixed_sums, ours, unknown[rows])):
                chosen = of[:, where]
                sums += [chosen.sum(axis=1, dtype=float), np.square(chosen).sum(axis=1, dtype=float)]
    if unknown.any():
        mean, square = moved_sums / known.sum()
        # Σ over the unknown voxels of E (F − M)² = F² − 2 F E M + E M².
        total += (fixed_sums[1] - 2 * fixed_sums[0] * mean + unknown.sum() * square).mean()
    return float(total / mask.sum())


def _patch_sums(values: np.ndarray) -> np.ndarray:
    """Return the sum over the patch around each voxel, at the border over what there is of it."""
    # A few shifted sums: for patches this small four times as fast as a running mean.
    for axis in range(values.ndim):
        line = np.moveaxis(values, axis, 0)
        summed = line.copy(order="K")  # as it lies in memory
        for step in range(1, RADIUS + 1):
            summed[step:] += line[:-step]
            summed[:-step] += line[step:]
        values = np.moveaxis(summed, 0, axis)
    return values
