"""Jobs under random faults: `python -m tests.chaos`."""
