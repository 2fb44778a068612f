"""The accuracy benchmark: every method on the same simulated cities, with the same encoder and as many photos seen."""
