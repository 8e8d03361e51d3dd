"""Networks: what they are, what they are trained for and with, how a training goes, and how they are applied to pairs.

Here is the one place that loads TensorFlow, and with it voxelmorph 0.2: :mod:`cohortmorph.learning.networks`. A
training is a :class:`~cohortmorph.learning.task.Training`; its samples, objective, trainer and loop have a module each.
Rooms above may be imported from nowhere here: only run, cohort, spatial, clinic and registration lie below.
"""
