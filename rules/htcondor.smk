# A run that is safe to start again: one at a time in this folder, and on HTCondor none of an earlier run's jobs.


onstart:
    try:
        pool.begin(workflow, IMAGES)
    except UserError as error:
        raise WorkflowError(str(error)) from None
