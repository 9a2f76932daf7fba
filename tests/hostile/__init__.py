"""Hostile input at every entry point: what a command does with it, against what was fixed beforehand.

    python -m tests.hostile                     all cases, and the table of docs/hostile.md
    python -m tests.hostile --kind streams      the cases of one kind
    python -m tests.hostile --failures          tell what was wrong with those that failed

A case is a distinct input at an entry point. It is right if the command ends within its limits of time and memory, with
the exit status and the line that were expected, without a traceback, and with no file changed but its outputs.
"""
