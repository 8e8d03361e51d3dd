# A run that is safe to start again: one at a time in this folder, and on HTCondor none of an earlier run's jobs.


onstart:
    # Snakemake 9.27 limits jobs a second by timers that each start another, one more with every job that ends
    # (snakemake#3744): after some hundred jobs it looks at its queue without a pause. `jobs` and `cores` limit enough.
    workflow.scheduler.job_rate_limiter = None
    try:
        pool.begin(workflow, cohort.images.values())
    except UserError as error:
        raise WorkflowError(str(error)) from None
