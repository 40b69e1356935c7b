"""Measured comparisons: `make bench`. Each prints ratios of figures taken in one run on this machine."""
