"""Whole trainings that anyone can repeat, a folder each."""
