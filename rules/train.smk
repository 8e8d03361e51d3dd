# VoxelMorph: one training a regularization weight, or one for all of them.


rule prepare_input:
    """Put an image, through its affine transform, on the grid on which the network works: its frame's."""
    input:
        image=of_pair("moving"),
        frame=of_pair("frame"),
        affine="results/pairs/{pair}/affine.tfm",
        registration="results/pairs/{pair}/affine.json",
    output:
        "results/pairs/{pair}/network_input.nii.gz",
    log:
        "results/logs/prepare_input/{pair}.log",
    benchmark:
        "results/benchmarks/prepare_input/{pair}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        intensity_settings=of_pair("moving", intensity_of),
        spacing_mm=VOXELMORPH.get("spacing_mm"),
        dimensions=VOXELMORPH["dimensions"],
        multiple=2 ** len(VOXELMORPH["encoder"]),
    script:
        "../scripts/prepare_input.py"


rule prepare_labels:
    """Put an image's label map on the same grid, for a training that uses labels."""
    input:
        labels=cell_of_pair("moving", "labels"),
        frame=of_pair("frame"),
        affine="results/pairs/{pair}/affine.tfm",
    output:
        "results/pairs/{pair}/network_labels.nii.gz",
    log:
        "results/logs/prepare_labels/{pair}.log",
    benchmark:
        "results/benchmarks/prepare_labels/{pair}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        spacing_mm=VOXELMORPH.get("spacing_mm"),
        dimensions=VOXELMORPH["dimensions"],
        multiple=2 ** len(VOXELMORPH["encoder"]),
    script:
        "../scripts/prepare_labels.py"


rule train_voxelmorph:
    """Train the network for one weight λ; the loss and its parts stand in history.tsv, an epoch a row."""
    input:
        files_in(TRAINING_INPUTS + VALIDATION_INPUTS + TRAINING_LABELS),
    output:
        networks=expand("results/models/voxelmorph/weight-{{weight}}/epoch-{epoch}.npz", epoch=VOXELMORPH["kept_epochs"]),
        history="results/models/voxelmorph/weight-{weight}/history.tsv",
        report="results/models/voxelmorph/weight-{weight}/training.json",
    log:
        "results/logs/train_voxelmorph/weight-{weight}.log",
    benchmark:
        "results/benchmarks/train_voxelmorph/weight-{weight}.tsv"
    conda:
        "../envs/voxelmorph.yaml"
    threads: VOXELMORPH.get("threads", 1)
    resources:
        **needs(memory_mb=8000, minutes=720, gpus=int(VOXELMORPH.get("gpu", False))),
    params:
        training_inputs=TRAINING_INPUTS,
        training_labels=TRAINING_LABELS,
        validation_inputs=VALIDATION_INPUTS,
        settings=ARCHITECTURE | TRAINING,
        seed=config["seed"],
    script:
        "../scripts/train_voxelmorph.py"


rule train_conditional:
    """Train one network for every λ from the least to the greatest weight, and take the networks at the weights from it."""
    input:
        files_in(TRAINING_INPUTS + VALIDATION_INPUTS + TRAINING_LABELS),
    output:
        conditional=expand(f"{CONDITIONAL}/epoch-{{epoch}}.npz", epoch=VOXELMORPH["kept_epochs"]),
        networks=[f"{CONDITIONAL}/weight-{weight}_epoch-{epoch}.npz" for weight, epoch in NETWORKS],
        history=f"{CONDITIONAL}/history.tsv",
        report=f"{CONDITIONAL}/training.json",
    log:
        "results/logs/train_conditional.log",
    benchmark:
        "results/benchmarks/train_conditional.tsv"
    conda:
        "../envs/voxelmorph.yaml"
    threads: VOXELMORPH.get("threads", 1)
    resources:
        **needs(memory_mb=8000, minutes=720, gpus=int(VOXELMORPH.get("gpu", False))),
    params:
        weight=weights_of_range,
        training_inputs=TRAINING_INPUTS,
        training_labels=TRAINING_LABELS,
        validation_inputs=VALIDATION_INPUTS,
        settings=ARCHITECTURE | TRAINING,
        seed=config["seed"],
    script:
        "../scripts/train_conditional.py"
