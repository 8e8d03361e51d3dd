# VoxelMorph: one training a regularization weight, or one for all of them.

if network:

    rule prepare_input:
        """Put an image, through its affine transform, on the grid on which the network works: its frame's."""
        input:
            files(plan.to_prepare),
        output:
            results.network_input("{pair}"),
        log:
            results.log("prepare_input/{pair}"),
        benchmark:
            results.benchmark("prepare_input/{pair}")
        conda:
            "../envs/imaging.yaml"
        resources:
            **needs(memory_mb=2000, minutes=10),
        params:
            **network.grid_settings,
            intensity_settings=of(plan.intensity_of_moving),
        script:
            "../scripts/prepare_input.py"

    rule prepare_labels:
        """Put an image's label map on the same grid, for a training that uses labels."""
        input:
            files(plan.to_prepare_labels),
        output:
            results.network_labels("{pair}"),
        log:
            results.log("prepare_labels/{pair}"),
        benchmark:
            results.benchmark("prepare_labels/{pair}")
        conda:
            "../envs/imaging.yaml"
        resources:
            **needs(memory_mb=2000, minutes=10),
        params:
            **network.grid_settings,
        script:
            "../scripts/prepare_labels.py"

    rule train_voxelmorph:
        """Train the network for one weight λ; the loss and its parts stand in history.tsv, an epoch a row."""
        input:
            network.training_files,
        output:
            networks=network.parameters_of_weight("{weight}"),
            history=results.of_training("voxelmorph", "{weight}", "history.tsv"),
            report=results.of_training("voxelmorph", "{weight}", "training.json"),
        log:
            results.log("train_voxelmorph/weight-{weight}"),
        benchmark:
            results.benchmark("train_voxelmorph/weight-{weight}")
        conda:
            "../envs/voxelmorph.yaml"
        threads: network.chosen["threads"]
        resources:
            **needs(memory_mb=8000, minutes=720, gpus=int(network.chosen["gpu"])),
        params:
            training_inputs=network.training_inputs,
            training_labels=network.training_labels,
            validation_inputs=network.validation_inputs,
            settings=network.training_settings,
            seed=config["seed"],
        script:
            "../scripts/train_voxelmorph.py"

    rule train_conditional:
        """Train one network for every λ from the least to the greatest weight, and take the networks at the weights from it."""
        input:
            network.training_files,
        output:
            conditional=network.parameters_of_conditional(network.kept_epochs),
            networks=network.parameters_at_weights,
            history=results.of_conditional("voxelmorph", "history.tsv"),
            report=results.of_conditional("voxelmorph", "training.json"),
        log:
            results.log("train_conditional"),
        benchmark:
            results.benchmark("train_conditional")
        conda:
            "../envs/voxelmorph.yaml"
        threads: network.chosen["threads"]
        resources:
            **needs(memory_mb=8000, minutes=720, gpus=int(network.chosen["gpu"])),
        params:
            weight=of(network.range_of_weights),
            training_inputs=network.training_inputs,
            training_labels=network.training_labels,
            validation_inputs=network.validation_inputs,
            settings=network.training_settings,
            seed=config["seed"],
        script:
            "../scripts/train_conditional.py"
