"""Bugs that somebody could have written, planted one at a time: each must be found, else the proof proves nothing.

A bug is a context manager that changes the program in memory. They live in tests only. `test_planted_bugs.py` looks for
each in the place where it is said to be found; the first one runs in every CI run, and must fail.
"""
