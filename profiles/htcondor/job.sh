#!/bin/sh
# What a job runs on a machine that does not see this folder: Python of its container (/opt/cohortmorph), or of the PATH.
PATH="/opt/cohortmorph/bin:$PATH"
exec python -m snakemake "$@"
