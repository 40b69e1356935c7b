"""Reading what a cluster does: flows, traces, diagnosis."""
