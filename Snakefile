# CohortMorph: from the DICOM folders of a cohort to the comparison of registration methods.
# The stages stand in rules/, one file each, in the order below; what they share stands in rules/common.smk.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/cohort.smk"
include: "rules/phantom.smk"
include: "rules/convert.smk"
include: "rules/harmonize.smk"
include: "rules/prealign.smk"
include: "rules/train.smk"
include: "rules/register.smk"
include: "rules/baselines.smk"
include: "rules/evaluate.smk"
include: "rules/fuse.smk"
include: "rules/report.smk"
include: "rules/viewer.smk"
include: "rules/experiments.smk"
include: "rules/htcondor.smk"


# Everything: the report, the tables behind it, every displacement that they rest on, the fused images and the viewer.
# (A comment and not a docstring: snakefmt 2.1 moves the docstring of a rule that has default_target behind its inputs.)
rule all:
    default_target: True
    input:
        report=results.of_cohort("report.html"),
        metrics=results.evaluation("metrics.tsv"),
        summary=results.evaluation("summary.tsv"),
        fused=shown.fused,
        viewer=results.of_cohort("viewer"),
    localrule: True
