"""The kind `voxelmorph`: a U-Net that learns without a truth, by how alike it makes the images of a pair.

Balakrishnan et al., IEEE TMI 2019; Dalca et al., MICCAI 2018; for every λ at once, see `conditional`.
"""

import sys

from cohortmorph.learning import conditional, losses, neighbours, objective, self_similarity, unet
from cohortmorph.learning.kind import Kind

VOXELMORPH = Kind(
    modules=(sys.modules[__name__], conditional, losses, neighbours, objective, self_similarity, unet),
    multiple=lambda settings: unet.size_multiple(settings["encoder"]),
    network=unet.UNet,
    objective=objective.SimilarityObjective,
    conditional=conditional.ConditionalNetwork,
)
