"""Write the interactive viewer of all evaluated pairs: a folder for a web server on this machine (`make view`).

In:  metrics.tsv (TRE in mm, folding in %), failures.tsv, the selected model; of each pair the fixed and moving image,
     the moved image of each method on the fixed grid, and the landmarks (LPS, mm) where both images have some.
Out: a folder with the page, and pairs.json, which links to the images where they lie; none is copied.
"""

from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.report import viewer
from cohortmorph.report.page import read_failures
from cohortmorph.run import files, logs


def main(
    metrics: str,
    failures: str,
    selected: str,
    pairs: list,
    splits: list,
    methods: list,
    fixed_names: list,
    moving_names: list,
    fixed: list,
    moving: list,
    moved: list,
    fixed_intensities: list,
    moving_intensities: list,
    with_landmarks: list,
    fixed_landmarks: list,
    moving_landmarks: list,
    output: str,
    phantom: bool = False,
):
    """Write the viewer to the folder `output`.

    Parameters
    ----------
    metrics, failures, selected : str
        Paths of the evaluation's files; `selected` is "" if no network was trained.
    pairs, splits : list of str
    methods : list of str
        As their folders are called.
    fixed_names, moving_names, fixed, moving : list of str
        Ids and paths of each pair's images.
    moved : list of str
        Paths, pair by pair, then method by method; each method's displacement lies beside.
    fixed_intensities, moving_intensities : list of dict
        Settings of cohortmorph.spatial.intensity.limits.
    with_landmarks, fixed_landmarks, moving_landmarks : list of str
        The pairs whose images both have landmarks, and these files in their order.
    phantom : bool
        Whether the cohort is the embedded phantom: then the page says so.
    """
    values, reasons = read_metrics(metrics), read_failures(failures)
    chosen = files.read_json(selected) if selected else None
    points = {
        pair: viewer.matched_landmarks(*paths)
        for pair, *paths in zip(with_landmarks, fixed_landmarks, moving_landmarks, strict=True)
    }
    windows, described = {}, []
    for n, (pair, split) in enumerate(zip(pairs, splits, strict=True)):
        images = {}
        for role, name, path, settings in (
            ("fixed", fixed_names[n], fixed[n], fixed_intensities[n]),
            ("moving", moving_names[n], moving[n], moving_intensities[n]),
        ):
            if path not in windows:
                windows[path] = viewer.window(path, settings)
            images[role] = {"name": name, "file": viewer.relative(path, output), "window": windows[path]}
        of_pair = dict(zip(methods, moved[n * len(methods) : (n + 1) * len(methods)], strict=True))
        described.append(
            {
                "pair": pair,
                "split": split,
                **images,
                "landmarks": points.get(pair),
                "methods": viewer.described_methods(pair, of_pair, values, reasons, chosen, output),
            }
        )
    with files.publishing_folder(output) as folder:
        viewer.copy_page(folder)
        files.write_json({"phantom": phantom, "pairs": described}, folder / "pairs.json")
    logs.log.info("%d pairs, %d methods, %d pairs with landmarks", len(pairs), len(methods), len(points))


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK", "pandas"]):
        main(
            metrics=snakemake.input.metrics,
            failures=snakemake.input.failures,
            selected=snakemake.input.get("selected", ""),
            fixed=list(snakemake.input.fixed),
            moving=list(snakemake.input.moving),
            moved=list(snakemake.input.moved),
            fixed_landmarks=list(snakemake.input.get("fixed_landmarks", [])),
            moving_landmarks=list(snakemake.input.get("moving_landmarks", [])),
            output=snakemake.output[0],
            **snakemake.params,
        )
