"""Policies: pure functions from the state of a sweep to decisions, one rule a file.

May import values, state, laws and `surrogates.base`; touches nothing. Policies are strangers to
each other: what several share is a leaf of its own, such as `rungs`, `ranking`, `bracket`,
`textbook`, `trust`, `choosing`, `searching` and `acquisition`.
"""
