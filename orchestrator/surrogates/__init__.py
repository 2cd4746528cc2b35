"""Surrogates: forecasts of the rest of a learning curve, one model a file.

May import values, laws, numpy, scipy, torch and gpytorch; touches memory only. Surrogates are
strangers to each other: what several share is a leaf of its own (`base`, `families`).
"""
