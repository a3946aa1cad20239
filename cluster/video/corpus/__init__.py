"""The conformance corpus: a small clip for every kind of footage, made here, with what must come of it.

The clips are computed, the same on every call with the same libraries, so that they need not be shipped and
anyone can look at what Framelift does with each. `cases.CASES` lists them all.
"""
