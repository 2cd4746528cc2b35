"""Report: the sweep and its law as one page that a meeting can read, and its plots.

May import values, events, state and laws; touches files. The only room that imports matplotlib.
"""
