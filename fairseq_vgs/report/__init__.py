"""Plots, tables, galleries and heat maps, drawn from result files."""
