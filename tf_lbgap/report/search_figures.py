"""Figures of a search."""

FIGURES = {}
