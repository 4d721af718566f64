"""Masks against references: counts, the measures made of them and their intervals, ours and those of other processors."""
