# Networks: what they see, and for each of them one training a regularization weight, or one for all of its weights.


rule prepare_input:
    """Put an image, through its affine transform, on a grid on which networks work: its frame's, at their spacing."""
    input:
        files(learning.to_prepare),
    output:
        results.network_input("{pair}", "{grid}"),
    log:
        results.log("prepare_input/{pair}_{grid}"),
    benchmark:
        results.benchmark("prepare_input/{pair}_{grid}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        view=of(learning.grid_settings),
        intensity_settings=of(learning.intensity_of_moving),
    script:
        "../scripts/prepare_input.py"


rule prepare_labels:
    """Put an image's label map on the same grid, for a training that uses labels."""
    input:
        files(learning.to_prepare_labels),
    output:
        results.network_labels("{pair}", "{grid}"),
    log:
        results.log("prepare_labels/{pair}_{grid}"),
    benchmark:
        results.benchmark("prepare_labels/{pair}_{grid}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        users_files(learning.to_prepare_labels),
        view=of(learning.grid_settings),
    script:
        "../scripts/prepare_labels.py"


rule prepare_mask:
    """Put where an image counts on the same grid, for a training whose likeness is masked: its mask, or all of it."""
    input:
        files(learning.to_prepare_mask),
    output:
        results.network_mask("{pair}", "{grid}"),
    log:
        results.log("prepare_mask/{pair}_{grid}"),
    benchmark:
        results.benchmark("prepare_mask/{pair}_{grid}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        users_files(learning.to_prepare_mask),
        view=of(learning.grid_settings),
    script:
        "../scripts/prepare_mask.py"


for name, network in plan.networks.items():

    rule:
        """Train a network for one weight λ; the loss and its parts stand in history.tsv, an epoch a row."""
        name:
            f"train_{name}"
        input:
            network.training_files,
        output:
            networks=network.parameters_of_weight("{weight}"),
            history=results.of_training(name, "{weight}", "history.tsv"),
            report=results.of_training(name, "{weight}", "training.json"),
        log:
            results.log(f"train_{name}/weight-{{weight}}"),
        benchmark:
            results.benchmark(f"train_{name}/weight-{{weight}}")
        priority: 1  # the longest jobs, for which the others wait: as soon as they can
        conda:
            "../envs/voxelmorph.yaml"
        threads: network.chosen["threads"]
        resources:
            **needs(memory_mb=8000, minutes=720, gpus=int(network.chosen["gpu"])),
        params:
            **network.training,
            seed=config["seed"],
        script:
            "../scripts/train_network.py"

    if not network.may_be_conditional:
        continue

    rule:
        """Train one network for every λ from the least to the greatest weight, and take the networks at the weights from it."""
        name:
            f"train_{name}_conditional"
        input:
            network.training_files,
        output:
            conditional=network.parameters_of_conditional(network.kept_epochs),
            networks=network.parameters_at_weights,
            history=results.of_conditional(name, "history.tsv"),
            report=results.of_conditional(name, "training.json"),
        log:
            results.log(f"train_{name}_conditional"),
        benchmark:
            results.benchmark(f"train_{name}_conditional")
        priority: 1  # the longest jobs, for which the others wait: as soon as they can
        conda:
            "../envs/voxelmorph.yaml"
        threads: network.chosen["threads"]
        resources:
            **needs(memory_mb=8000, minutes=720, gpus=int(network.chosen["gpu"])),
        params:
            **network.training,
            weight=of(network.range_of_weights),
            seed=config["seed"],
        script:
            "../scripts/train_conditional.py"
