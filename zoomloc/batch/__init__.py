"""Locating many photos: what was named becomes jobs, jobs are decoded ahead of the model, rows go to a journal."""
