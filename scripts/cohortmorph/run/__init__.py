"""How a job runs, whatever it does: files written aside and renamed, logs, memory, the tools that this machine has.

May import: nothing.
"""
