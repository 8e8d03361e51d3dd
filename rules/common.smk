# What the rules share: the cohort, the methods, and functions that turn wildcards into files and settings.
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from cohortmorph import UserError
from cohortmorph.cohort import cohort as cohort_table, configuration, sources
from cohortmorph.pool import htcondor as pool
from cohortmorph.run import tools

# Snakemake lists a --configfile first, though it is the one that wins.
chosen_files = list(map(str, workflow.overwrite_configfiles))
config_files = [path for path in map(str, workflow.configfiles) if path not in chosen_files] + chosen_files

try:
    # A job of a pool reads the same table as the run that sent it, which has looked at the files.
    cohort = cohort_table.load(
        config,
        config_files,
        files_are_here=not workflow.remote_exec,
        tools_are_here=not workflow.remote_exec and not workflow.deployment_settings.deployment_method,
    )
except UserError as error:
    raise WorkflowError(str(error)) from None
config.update(configuration.with_defaults(config))
workflow.register_envvars(*configuration.variables(config))  # the jobs of a pool get these of the environment as well

IMAGES, PAIRS, ALIGNMENTS = cohort.images, cohort.pairs, cohort.alignments  # look rows up by cohort.image and .pair
EVALUATED = cohort.pairs_in("validation") + cohort.pairs_in("test")

VOXELMORPH = config["voxelmorph"] or {"weights": [], "kept_epochs": [], "encoder": [], "dimensions": 3}
NETWORKS = [(weight, epoch) for weight in VOXELMORPH["weights"] for epoch in VOXELMORPH["kept_epochs"]]
CONDITIONAL = "results/models/voxelmorph/conditional"  # the folder of the one network for every λ
LEARNED = [configuration.learned_method(weight, epoch) for weight, epoch in NETWORKS]
# Methods whose tool is missing are left out where the config says so; the report names them.
SKIPPED = [
    method
    for method, chosen in config["baselines"].items()
    if chosen["missing"] == "skip"
    and not workflow.deployment_settings.deployment_method
    and not tools.find(chosen["tool"])
]
PARAMETER_FILES = [
    file
    for chosen in (config["prealign"], *config["baselines"].values())
    for file in configuration.parameter_files(chosen)
]
BASELINES = [method for method in config["baselines"] if method not in SKIPPED]
HARMONIZED = config["harmonize"]["enabled"]
FREE = ["initial", *(["harmonized"] if HARMONIZED else []), "affine"]  # they need no registration of their own
METHODS = [*FREE, *BASELINES, *LEARNED]
LABELLED = bool(len(EVALUATED)) and bool((IMAGES.loc[PAIRS["moving"], "labels"] != "").all())
SELECTED = "results/evaluation/selected_model.json" if LEARNED else []
FUSION = config["fusion"] or {}
# What is fused: every evaluated pair of one subject's images, by the fixed image.
FUSED_PAIRS = [pair for pair in EVALUATED if FUSION and PAIRS.at[pair, "fixed"].split("-")[0] == pair.split("-")[0]]
FUSED = [
    f"results/fused/{image.replace('-', '/')}"
    for image in dict.fromkeys(PAIRS.at[pair, "fixed"] for pair in FUSED_PAIRS)
]
SHARED_FILES = bool(workflow.storage_settings.shared_fs_usage)  # whether the machines of a pool see this folder
PHANTOM = bool(IMAGES["source"].str.startswith("results/phantom/").any())


def commit():
    """Return the workflow's git commit, or "" outside of a repository."""
    command = ["git", "-C", workflow.basedir, "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def one_of(names):
    """Return a regular expression that matches exactly these names (nothing, if there are none)."""
    return "|".join(map(re.escape, names)) or "(?!)"


def needs(memory_mb, minutes, disk_mb=2000, gpus=0):
    """Return a rule's resources: for Snakemake and, under the names that its plugin reads, for HTCondor.

    Memory and time grow with each attempt.
    """

    def grown(amount):
        return lambda wildcards, attempt: amount * attempt

    asked = {
        "mem_mb": grown(memory_mb),
        "htcondor_request_mem_mb": grown(memory_mb),
        "disk_mb": disk_mb,
        "htcondor_request_disk_mb": disk_mb,
        "runtime": grown(minutes),
        "allowed_execute_duration": grown(60 * minutes),
        f"classad_{pool.FOLDER}": str(Path.cwd()),
    }
    if not SHARED_FILES:
        # HTCondor would send the Python of .venv/ itself, which is nothing without what lies around it.
        asked["job_wrapper"] = "profiles/htcondor/job.sh"
    return asked | ({"gpu": gpus, "request_gpus": gpus_to_request(gpus)} if gpus else {})


def gpus_to_request(number):
    """Return a resource function: so many GPUs, or none where the HTCondor pool has none."""
    return lambda wildcards: number if not pool.on_htcondor(workflow) or pool.has_gpus() else 0


# Images


def table_cell(column):
    """Return a params function: the cell of this column for the image {subject}-{image}."""
    return lambda wildcards: cohort.image(f"{wildcards.subject}-{wildcards.image}")[column]


def typed_data_folder(wildcards):
    """Return the config's data folder. (As a plain string, Snakemake would take its ${VARIABLES} for wildcards.)"""
    return config["data_folder"]


def table_file(image_id, column):
    """Return the file in this column of an image, or nothing; structures from the clinic are converted first."""
    cell = cohort.image(image_id)[column]
    if column == "labels" and sources.is_segmentation(cell):
        return image_file(image_id).replace(".nii.gz", "_labels.nii.gz")
    return cell or []


def made_path(column):
    """Return an input function: the path in this column if the workflow makes the file itself, or nothing."""

    def path(wildcards):
        cell = table_cell(column)(wildcards)
        return cell if cell.startswith(sources.MADE_HERE) else []

    return path


def fingerprint_of(column):
    """Return a params function: the fingerprint of a file of the user's, "" for a file of the workflow's own."""
    return lambda wildcards: (
        "" if made_path(column)(wildcards) else sources.fingerprint(table_cell(column)(wildcards))
    )


def fingerprints_of_sources(wildcards):
    """Return the fingerprints of all images of the user's."""
    return [sources.fingerprint(path) for path in IMAGES["source"] if not path.startswith(sources.MADE_HERE)]


def image_file(image_id):
    """Return the converted image."""
    return f"results/images/{cohort.image(image_id)['subject']}/{cohort.image(image_id)['image']}.nii.gz"


def images_of_subject(wildcards):
    """Return the converted images of a subject, in the table's order."""
    return expand("results/images/{{subject}}/{image}.nii.gz", image=cohort.images_of(wildcards.subject))


def image_names(wildcards):
    """Return the names of a subject's images, in the table's order."""
    return cohort.images_of(wildcards.subject)


def intensity_of(image_id):
    """Return how the intensities of this image are prepared."""
    return config["intensity"][cohort.image(image_id)["modality"]]


def intensities_of_subject(wildcards):
    """Return how the intensities of a subject's images are prepared, in the table's order."""
    return [intensity_of(f"{wildcards.subject}-{image}") for image in cohort.images_of(wildcards.subject)]


# Pairs. An alignment is a pair as well: an image and the frame that the network sees it in.


def methods_of(tool):
    """Return the classical methods of a tool."""
    return [method for method in BASELINES if config["baselines"][method]["tool"] == tool]


def parameter_files_of(tool):
    """Return the parameter files of all methods of a tool."""
    return [file for method in methods_of(tool) for file in configuration.parameter_files(config["baselines"][method])]


def displacements_of(tool):
    """Return the displacements that a tool's methods give for a pair."""
    return expand("results/pairs/{{pair}}/{method}/displacement.nii.gz", method=methods_of(tool))


def starts_of(tool):
    """Return the displacements of a pair that a tool's methods start from, where that is another method's."""
    starts = dict.fromkeys(config["baselines"][method]["start"] for method in methods_of(tool))
    return expand(
        "results/pairs/{{pair}}/{method}/displacement.nii.gz", method=[one for one in starts if one in LEARNED]
    )


def registrations_of(tool):
    """Return what is written down of these registrations."""
    return expand("results/pairs/{{pair}}/{method}/registration.json", method=methods_of(tool))


def settings_of(tool):
    """Return the settings of a tool's methods, in their order."""
    chosen = [config["baselines"][method] for method in methods_of(tool)]
    return [{"parameters": configuration.parameter_files(one), "start": one["start"]} for one in chosen]


def models_of(tool):
    """Return the transforms that a tool's methods fit to points, in their order."""
    return [config["baselines"][method]["model"] for method in methods_of(tool)]


def of_pair(role, value=image_file):
    """Return an input or params function: `value` of the pair's image in this role (fixed, moving or frame)."""
    return lambda wildcards: value(cohort.pair(wildcards.pair)[role])


def cell_of_pair(role, column):
    """Return an input function: the file in this column for the pair's image in this role, or nothing."""
    return lambda wildcards: table_file(cohort.pair(wildcards.pair)[role], column)


def reverse_displacements(wildcards):
    """Return every method's displacement of the pair with its images exchanged, if that is a pair too, or nothing."""
    row = cohort.pair(wildcards.pair)
    reverse = PAIRS.index[(PAIRS["fixed"] == row["moving"]) & (PAIRS["moving"] == row["fixed"])]
    return expand("results/pairs/{pair}/{method}/displacement.nii.gz", pair=reverse, method=METHODS)


def true_displacement(wildcards):
    """Return the known displacement of a pair (mm, LPS, fixed grid), or nothing: a phantom's from its CT to T1 or T2."""
    fixed, moving = (Path(cohort.image(cohort.pair(wildcards.pair)[role])["source"]) for role in ("fixed", "moving"))
    planted = fixed.parts[:2] == ("results", "phantom") and moving.parent == fixed.parent and fixed.name == "CT"
    if fixed.parts[:2] == ("results", "synthetic") and moving == fixed.with_name("moving.nii.gz"):
        return str(fixed.with_name("truth.nii.gz"))
    return str(fixed.parent / f"truth_{moving.name}_to_CT.nii.gz") if planted and moving.name in ("T1", "T2") else []


def split_of_pair(wildcards):
    """Return the split of a pair."""
    return cohort.pair(wildcards.pair)["split"]


def within_subject(wildcards):
    """Say whether harmonizing makes the images of this pair comparable."""
    subjects = {cohort.image(cohort.pair(wildcards.pair)[role])["subject"] for role in ("fixed", "moving")}
    return HARMONIZED and len(subjects) == 1


def harmonized_folder(wildcards):
    """Return the folder of the harmonized subject of a pair, or nothing."""
    subject = cohort.image(cohort.pair(wildcards.pair)["fixed"])["subject"]
    return f"results/harmonized/{subject}" if within_subject(wildcards) else []


def harmonizing_transforms(wildcards):
    """Return the transform files (fixed image's, moving image's) from the harmonized world, or nothing."""
    if not within_subject(wildcards):
        return []
    roles = [cohort.pair(wildcards.pair)[role] for role in ("fixed", "moving")]
    return [f"results/harmonized/{cohort.image(id)['subject']}/{cohort.image(id)['image']}.tfm" for id in roles]


def to_frame(role, file):
    """Return an input function: a file of the alignment of the pair's image in this role to the pair's frame."""

    def path(wildcards):
        row = cohort.pair(wildcards.pair)
        return f"results/pairs/{row[role]}_to_{row['frame']}/{file}"

    return path


def composed_from(role, file):
    """Return an input function as `to_frame`, or nothing where the image is its own frame."""
    path = to_frame(role, file)
    return lambda wildcards: (
        [] if cohort.pair(wildcards.pair)["fixed"] == cohort.pair(wildcards.pair)["moving"] else path(wildcards)
    )


# The fused image


def pairs_to_fuse(wildcards):
    """Return the evaluated pairs of this fixed image and another image of its subject."""
    fixed = f"{wildcards.subject}-{wildcards.image}"
    return [pair for pair in FUSED_PAIRS if PAIRS.at[pair, "fixed"] == fixed]


def methods_to_fuse():
    """Return the method whose moved images are fused, or all networks, of which the selected one is taken then."""
    chosen = FUSION.get("method", "affine")
    if chosen != "selected":
        if chosen in SKIPPED:
            raise WorkflowError(f"fusion.method: {chosen} is skipped, as its tool is not installed; choose another.")
        return [chosen]
    return LEARNED or BASELINES[:1] or ["affine"]


def of_fused_pairs(file):
    """Return an input function: this file of each pair to fuse and method, pair by pair."""
    return lambda wildcards: expand(
        f"results/pairs/{{pair}}/{{method}}/{file}", pair=pairs_to_fuse(wildcards), method=methods_to_fuse()
    )


def of_fused_images(value):
    """Return an input or params function: `value` of the moving image of each pair to fuse."""
    return lambda wildcards: [value(cohort.pair(pair)["moving"]) for pair in pairs_to_fuse(wildcards)]


def sidecar_file(image_id):
    """Return what is written down of a converted image."""
    return image_file(image_id).replace(".nii.gz", ".json")


def image_name(image_id):
    """Return the name of an image within its subject."""
    return cohort.image(image_id)["image"]


def modality_of(image_id):
    """Return the modality of an image, as in the table."""
    return cohort.image(image_id)["modality"]


def intensity_of_fixed(wildcards):
    """Return how the intensities of the image {subject}-{image} are prepared."""
    return intensity_of(f"{wildcards.subject}-{wildcards.image}")


# The viewer


def of_evaluated(role, value=image_file):
    """Return `value` of the image in this role of each evaluated pair."""
    return [value(image_id) for image_id in PAIRS.loc[EVALUATED, role]]


def landmarks_to_view(role):
    """Return the landmark files of this image of all evaluated pairs whose images both have landmarks."""
    return [table_file(PAIRS.at[pair, role], "landmarks") for pair in WITH_LANDMARKS]


WITH_LANDMARKS = [
    pair for pair in EVALUATED if all(IMAGES.at[PAIRS.at[pair, role], "landmarks"] for role in ("fixed", "moving"))
]


# Experiments


def synthetic_base(wildcards):
    """Return the real image that a synthetic subject is made of."""
    return image_file(synthetic_subject(wildcards)["image"])


def synthetic_mask(wildcards):
    """Return the mask of that image, or nothing."""
    return table_file(synthetic_subject(wildcards)["image"], "mask")


def synthetic_field(wildcards):
    """Return the kind of displacement of a synthetic subject."""
    return synthetic_subject(wildcards)["field"]


def synthetic_subject(wildcards):
    """Return the entry of a synthetic subject in the configuration."""
    if wildcards.subject not in config["synthetic"]:
        raise UserError(f"`synthetic` in the configuration does not have subject {wildcards.subject}.")
    return config["synthetic"][wildcards.subject]


def landmarks_of_test_pairs(role):
    """Return the landmark files of this image of all test pairs that have landmarks."""
    images = PAIRS.loc[cohort.pairs_in("test"), role]
    return [IMAGES.at[image, "landmarks"] for image in images if IMAGES.at[image, "landmarks"]]


# Networks


def network_files(samples, name="network_input"):
    """Return the network's views (or labels) for alignment ids, or tuples of them, in the same shape."""
    return [
        f"results/pairs/{sample}/{name}.nii.gz" if isinstance(sample, str) else tuple(network_files(sample, name))
        for sample in samples
    ]


if VOXELMORPH.get("conditional"):
    NETWORK_FILES = [f"{CONDITIONAL}/weight-{weight}_epoch-{epoch}.npz" for weight, epoch in NETWORKS]
    HISTORIES = [f"{CONDITIONAL}/history.tsv"]
else:
    NETWORK_FILES = [f"results/models/voxelmorph/weight-{weight}/epoch-{epoch}.npz" for weight, epoch in NETWORKS]
    HISTORIES = [f"results/models/voxelmorph/weight-{weight}/history.tsv" for weight in VOXELMORPH["weights"]]

TRAINING_INPUTS = network_files(cohort.training_inputs) if LEARNED else []
VALIDATION_INPUTS = network_files(cohort.validation_inputs) if LEARNED else []
SUPERVISED = VOXELMORPH.get("label_weight", 0) > 0
INCOMPRESSIBLE = VOXELMORPH.get("incompressible", {}).get("weight", 0) > 0
LABELLED_INPUTS = cohort.training_inputs if SUPERVISED or INCOMPRESSIBLE else []
if not SUPERVISED:
    # Incompressible structures are those of the fixed image: the moving one needs no labels, and its place is filled.
    LABELLED_INPUTS = [sample if isinstance(sample, str) else (sample[0], sample[0]) for sample in LABELLED_INPUTS]
TRAINING_LABELS = network_files(LABELLED_INPUTS, "network_labels") if LEARNED else []


def files_in(samples):
    """Return the files of network inputs, each once."""
    return sorted({path for sample in samples for path in ([sample] if isinstance(sample, str) else sample)})


TRAINING_ALIGNMENTS = [Path(path).parent.name for path in files_in(TRAINING_INPUTS)]


def network_settings(keys):
    """Return these keys of the config's voxelmorph section: a rule reruns only for the keys that it uses."""
    return {key: VOXELMORPH[key] for key in keys if key in VOXELMORPH}


def weights_of_range(wildcards):
    """Return the weights, between the least and greatest of which one network learns every λ."""
    problem = configuration.conditional_problem(VOXELMORPH["weights"])
    if problem:
        raise UserError(problem)
    return VOXELMORPH["weights"]


def to_judge_by(wildcards):
    """Return, for each validation pair, the files that register it and measure the result, by name; "" for none."""
    return [files_of_pair(SimpleNamespace(pair=pair)) for pair in cohort.pairs_in("validation")]


def files_of_pair(wildcards):
    """Return the files of a pair by name; "" for none."""
    files = {"fixed": of_pair("fixed"), "moving": of_pair("moving"), "fixed_mask": cell_of_pair("fixed", "mask")}
    for role in ("fixed", "moving"):
        files[f"{role}_input"] = to_frame(role, "network_input.nii.gz")
        files[f"frame_to_{role}"] = to_frame(role, "affine.tfm")
        files |= {f"{role}_{column}": cell_of_pair(role, column) for column in ("labels", "landmarks")}
    return {name: path(wildcards) or "" for name, path in files.items()}


def files_to_judge_by(wildcards):
    """Return all these files, each once."""
    return sorted({path for files in to_judge_by(wildcards) for path in files.values() if path})


def intensities_to_judge_by(wildcards):
    """Return (fixed, moving) for each validation pair: how the intensities of its images are prepared."""
    pairs = [cohort.pair(pair) for pair in cohort.pairs_in("validation")]
    return [[intensity_of(pair["fixed"]), intensity_of(pair["moving"])] for pair in pairs]


ARCHITECTURE = network_settings(["dimensions", "encoder", "decoder", "int_steps", "field_downsampling"])
TRAINING = network_settings(
    [
        *("epochs", "steps_per_epoch", "batch_size", "learning_rate", "learning_rate_schedule", "kept_epochs"),
        *("similarity", "regularization", "label_weight", "label_loss", "incompressible", "flips", "augment"),
    ]
)


# Of a fixed length: Snakemake compiles and compares these for every file of every job, and lists of all ids made the dry
# run of 400 subjects twice as long. What fits, but is not in the cohort, is refused where its row is looked up.
wildcard_constraints:
    subject="[A-Za-z0-9]+",
    image="[A-Za-z0-9]+",
    pair="[A-Za-z0-9]+-[A-Za-z0-9]+_to_[A-Za-z0-9]+-[A-Za-z0-9]+",
    weight=one_of(VOXELMORPH["weights"]),
