"""Masks against references: counts, the measures made of them, and masks before and after fine-tuning."""
