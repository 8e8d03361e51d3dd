"""The kinds of networks that there are.

Of the training's code, this module alone is in no checkpoint's fingerprint: a new kind restarts no training of others.
"""

from cohortmorph.learning.kind import Kind


def kind_of(name: str) -> Kind:
    """Return the kind that the configuration calls so; loaded here, one alone, as each takes seconds."""
    match name:
        case "matching":
            from cohortmorph.learning.matching import MATCHING

            return MATCHING
        case "voxelmorph":
            from cohortmorph.learning.voxelmorph import VOXELMORPH

            return VOXELMORPH
    raise ValueError(f"{name} is no kind of network; each of config/schemas/kinds/ has a case here")
