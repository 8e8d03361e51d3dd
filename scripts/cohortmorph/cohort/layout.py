"""Where everything lies: the only place that spells ``results/…``.

Every function takes ids, or Snakemake's wildcards in their place (``"{pair}"``), so that rules and plan name a file by
the same word. Paths are relative to the folder in which Snakemake runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cohortmorph.cohort.methods import Method

ROOT = "results"
PHANTOM, SYNTHETIC = f"{ROOT}/phantom/", f"{ROOT}/synthetic/"  # images that the workflow itself makes lie below these
MADE_HERE = (PHANTOM, SYNTHETIC)
PHANTOM_IMAGES = ("CT", "T1", "T2")
ENDINGS = {"labels": "_labels.nii.gz", "landmarks": "_landmarks.tsv", "fiducials": "_fiducials.tsv"}

SYNTHETIC_ENDINGS = {"source": ".nii.gz", "landmarks": "_landmarks.tsv", "mask": "_mask.nii.gz"}


@dataclass(frozen=True)
class Layout:
    """The files of a run."""

    # ---- how a job went

    def log(self, job: str) -> str:
        """Return the log of a job: its rule, and its wildcards below."""
        return f"{ROOT}/logs/{job}.log"

    def benchmark(self, job: str) -> str:
        """Return what a job cost."""
        return f"{ROOT}/benchmarks/{job}.tsv"

    def of_cohort(self, file: str) -> str:
        """Return a file about the cohort as a whole."""
        return f"{ROOT}/{file}"

    # ---- images

    def phantom(self, subject: str, file: str) -> str:
        """Return a file or folder of a phantom subject."""
        return f"{PHANTOM}{subject}/{file}"

    def of_phantom(self, subject: str, what: str) -> list[str]:
        """Return the labels, landmarks or fiducials (`what`) of a phantom subject's images."""
        return [self.phantom(subject, f"{image}{ENDINGS[what]}") for image in PHANTOM_IMAGES]

    def true_displacement(self, subject: str, image: str) -> str:
        """Return the planted displacement (mm, LPS, on the grid of the phantom's CT) to another of its images."""
        return self.phantom(subject, f"truth_{image}_to_{PHANTOM_IMAGES[0]}.nii.gz")

    def true_displacements(self, subject: str) -> list[str]:
        """Return the planted displacements of a phantom subject."""
        return [self.true_displacement(subject, image) for image in PHANTOM_IMAGES[1:]]

    def synthetic(self, subject: str, file: str) -> str:
        """Return a file of a synthetic subject."""
        return f"{SYNTHETIC}{subject}/{file}"

    def of_synthetic(self, subject: str, what: str) -> list[str]:
        """Return the images (`source`), masks or landmarks of a synthetic subject, the fixed and the moving one's."""
        return [self.synthetic(subject, f"{role}{SYNTHETIC_ENDINGS[what]}") for role in ("fixed", "moving")]

    def image(self, subject: str, name: str) -> str:
        """Return a converted image, on its native grid."""
        return f"{ROOT}/images/{subject}/{name}.nii.gz"

    def sidecar(self, subject: str, name: str) -> str:
        """Return what is written down of a converted image."""
        return f"{ROOT}/images/{subject}/{name}.json"

    def labels(self, subject: str, name: str) -> str:
        """Return the label map made of structures from the clinic."""
        return f"{ROOT}/images/{subject}/{name}_labels.nii.gz"

    def harmonized(self, subject: str) -> str:
        """Return the folder of a harmonized subject."""
        return f"{ROOT}/harmonized/{subject}"

    def harmonizing_transform(self, subject: str, name: str) -> str:
        """Return the transform harmonized world → image world of an image."""
        return f"{self.harmonized(subject)}/{name}.tfm"

    def fused(self, subject: str, name: str) -> str:
        """Return the folder of the images fused with a fixed image."""
        return f"{ROOT}/fused/{subject}/{name}"

    # ---- pairs

    def of_pair(self, pair: str, file: str) -> str:
        """Return a file of a pair, or of an alignment: an image and the frame that a network sees it in."""
        return f"{ROOT}/pairs/{pair}/{file}"

    def affine(self, pair: str) -> str:
        """Return the affine transform, fixed → moving world."""
        return self.of_pair(pair, "affine.tfm")

    def affine_registration(self, pair: str) -> str:
        """Return what is written down of the affine registration."""
        return self.of_pair(pair, "affine.json")

    def network_input(self, pair: str, grid: str) -> str:
        """Return the image of an alignment on a grid on which networks work; see NetworkPlan.grid."""
        return self.of_pair(pair, f"network_input_{grid}.nii.gz")

    def network_labels(self, pair: str, grid: str) -> str:
        """Return its label map there."""
        return self.of_pair(pair, f"network_labels_{grid}.nii.gz")

    def network_mask(self, pair: str, grid: str) -> str:
        """Return where it counts there."""
        return self.of_pair(pair, f"network_mask_{grid}.nii.gz")

    def metrics_of_pair(self, pair: str) -> str:
        """Return the table of what was measured on a pair."""
        return self.of_pair(pair, "metrics.tsv")

    def of_method(self, pair: str, method: str, file: str) -> str:
        """Return a file of a method's result on a pair."""
        return self.of_pair(pair, f"{method}/{file}")

    def displacement(self, pair: str, method: str) -> str:
        """Return a displacement: mm, LPS, on the fixed image's own grid, everything composed in."""
        return self.of_method(pair, method, "displacement.nii.gz")

    def registration(self, pair: str, method: str) -> str:
        """Return what is written down of a registration, beside its displacement."""
        return self.of_method(pair, method, "registration.json")

    def moved(self, pair: str, method: str) -> str:
        """Return the moving image, resampled once on the fixed grid."""
        return self.of_method(pair, method, "moved.nii.gz")

    def moved_labels(self, pair: str, method: str) -> str:
        """Return the moving label map there."""
        return self.of_method(pair, method, "moved_labels.nii.gz")

    def displacements(self, pair: str, methods: Iterable[str]) -> list[str]:
        """Return the displacements of several methods."""
        return [self.displacement(pair, method) for method in methods]

    def registrations(self, pair: str, methods: Iterable[str]) -> list[str]:
        """Return what is written down of several methods."""
        return [self.registration(pair, method) for method in methods]

    # ---- networks

    def of_training(self, network: str, weight: str, file: str) -> str:
        """Return a file of the training for one weight λ."""
        return f"{ROOT}/models/{network}/weight-{weight}/{file}"

    def of_conditional(self, network: str, file: str) -> str:
        """Return a file of the training of one network for every λ."""
        return f"{ROOT}/models/{network}/conditional/{file}"

    def parameters(self, method: Method) -> str:
        """Return the parameters of a network for one λ and epoch."""
        return self.of_training(method.name, method.weight, f"epoch-{method.epoch}.npz")

    def parameters_of_conditional(self, method: Method) -> str:
        """Return the parameters of a network for one λ and epoch, taken from that for every λ."""
        return self.of_conditional(method.name, f"weight-{method.weight}_epoch-{method.epoch}.npz")

    # ---- what came out

    def evaluation(self, file: str) -> str:
        """Return a file of the evaluation; of a network alone ``{network}/…``."""
        return f"{ROOT}/evaluation/{file}"

    def selected(self, network: str) -> str:
        """Return the file that says which λ and epoch of a network were chosen, and why."""
        return self.evaluation(f"{network}/selected_model.json")

    def figure(self, file: str) -> str:
        """Return a figure; of a network alone ``{network}/…``."""
        return f"{ROOT}/figures/{file}"

    def drawn(self, figure: str) -> list[str]:
        """Return a figure's files: for the screen, and for print."""
        return [self.figure(f"{figure}.{kind}") for kind in ("png", "svg")]

    def review(self, file: str) -> str:
        """Return a file of the pages on which pairs are judged by eye."""
        return f"{ROOT}/qc/{file}"

    def experiment(self, file: str) -> str:
        """Return a file of the sources' experiments."""
        return f"{ROOT}/experiments/{file}"
