"""Stage 3 of the paper: bright samples, the neurons they fall on, and labels corrected without retraining.

Comes in: a labelled map, masks and what is known of bright land. Goes out: bright samples, a corrected labelled map.
"""
