#!/bin/sh
# What a job runs where the .venv/ of this folder is not: the Python of its container, or of the machine's PATH.
exec python -m snakemake "$@"
