"""What is to be done: configuration and table, checked, and what follows of them: images, pairs, methods, files,
the plan. No library of images or figures is loaded here, so that planning takes no time.

May import: run.
"""
