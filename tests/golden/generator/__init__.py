"""The parts of tests/golden/generate.py, in the order in which they run."""
