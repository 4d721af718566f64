"""Masks of ours and of other processors against references: counts, measures and their intervals."""
