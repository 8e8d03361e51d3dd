# VoxelMorph, one training a regularization weight.


rule prepare_input:
    """Put an image, through its affine transform, on the grid on which the network works: its frame's."""
    input:
        image=of_pair("moving"),
        frame=of_pair("frame"),
        affine="results/pairs/{pair}/affine.tfm",
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


rule train_voxelmorph:
    """Train the network for one weight λ; the loss and its parts stand in history.tsv, an epoch a row."""
    input:
        TRAINING_FILES,
    output:
        weights=expand("results/models/voxelmorph/weight-{{weight}}/epoch-{epoch}.npz", epoch=VOXELMORPH["kept_epochs"]),
        history="results/models/voxelmorph/weight-{weight}/history.tsv",
        report="results/models/voxelmorph/weight-{weight}/training.json",
    log:
        "results/logs/train_voxelmorph/weight-{weight}.log",
    benchmark:
        "results/benchmarks/train_voxelmorph/weight-{weight}.tsv"
    conda:
        "../envs/voxelmorph.yaml"
    threads: 2
    resources:
        **needs(memory_mb=8000, minutes=720, gpus=int(VOXELMORPH.get("gpu", False))),
    params:
        training_inputs=TRAINING_INPUTS,
        validation_inputs=VALIDATION_INPUTS,
        settings=ARCHITECTURE | TRAINING,
        seed=config["seed"],
    script:
        "../scripts/train_voxelmorph.py"
