"""Simulate neuronavigation: does dropping the fiducial with the largest error improve the registration?

In:  nothing but the number of draws and a seed (the head, the targets and the errors stand in
     cohortmorph.experiments.neuronavigation).
Out: a table with a row for each σ (mm), number of fiducials, number dropped and target: means of FRE² and TRE² (mm²),
     Fitzpatrick's predictions, their correlation; and a figure as PNG and SVG.
"""

from cohortmorph.experiments import neuronavigation
from cohortmorph.figures.style import save
from cohortmorph.run import logs
from cohortmorph.run.files import write_table


def main(draws: int, seed: int, table: str, pictures: list):
    """Write the table, and draw the figure to every path of `pictures`."""
    summary, shown = neuronavigation.simulate(draws, seed)
    complete = summary[summary.dropped == 0]
    for error in ("fre", "tre"):
        percent = complete[f"{error}_deviation_percent"].abs()
        errors = (percent / complete[f"{error}_standard_error_percent"]).max()
        logs.log.info(
            "With all fiducials, mean %s² is within %.2f %% of its prediction, or %.1f standard errors.",
            error.upper(),
            percent.max(),
            errors,
        )
    write_table(summary, table)
    save(neuronavigation.figure(summary, shown), *pictures)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["numpy", "matplotlib"]):
        main(
            table=snakemake.output.table,
            pictures=list(snakemake.output.pictures),
            **snakemake.params,
        )
