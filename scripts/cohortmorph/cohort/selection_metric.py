"""What a choice of λ and epoch goes by: `evaluation.selection.metric`, and what `auto` makes of it.

Landmarks say what was hit, label maps nearly so; without both it is how alike two images look, which is judged
otherwise between two modalities than within one (docs/metrics.md).
"""

from collections.abc import Mapping, Sequence

from cohortmorph.cohort.pairs import Pair

AUTO = "auto"
KNOWN = ("tre", "dice")  # by what is known of the pair, the better first
OF_ONE_MODALITY, OF_TWO = "ncc", "nmi"


def lacking(metric: str, pairs: Sequence[Pair], needs: Mapping[str, str]) -> list[str]:
    """Return the ids of the pairs that do not have, on both images, what a metric needs.

    Parameters
    ----------
    metric : str
    pairs : list of Pair
    needs : dict of str to str
        A column of the cohort table, or "", by metric.
    """
    column = needs[metric]
    return [pair.id for pair in pairs if column and not (getattr(pair.fixed, column) and getattr(pair.moving, column))]


def settled(metric: str, pairs: Sequence[Pair], needs: Mapping[str, str]) -> tuple[str, str]:
    """Return the metric that is meant and, where there is something to say of it, why.

    Parameters
    ----------
    metric : str
        ``evaluation.selection.metric``.
    pairs : list of Pair
        Of validation.
    needs : dict of str to str
        See :func:`lacking`.
    """
    two = list(dict.fromkeys(_modalities(pair) for pair in pairs if pair.of_two_modalities))
    if metric != AUTO:
        if metric == OF_ONE_MODALITY and two:
            return metric, (
                f"{', '.join(two)}: between two modalities NCC may prefer the worse registration (docs/metrics.md); "
                f"{OF_TWO}, or tre or dice where there are landmarks or labels, is the better "
                "evaluation.selection.metric."
            )
        return metric, ""
    for known in KNOWN:
        if not lacking(known, pairs, needs):
            return known, f"`{AUTO}` took {known}, as every validation pair has {needs[known]}."
    missing = " nor ".join(needs[known] for known in KNOWN)
    chosen, of = (OF_TWO, f"of two modalities ({', '.join(two)})") if two else (OF_ONE_MODALITY, "of one modality")
    return chosen, f"`{AUTO}` took {chosen}, as not every validation pair has {missing}, and the images are {of}."


def _modalities(pair: Pair) -> str:
    return f"{pair.fixed.modality} and {pair.moving.modality}"
