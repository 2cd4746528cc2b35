"""Laws: what relates loss to parameters N, tokens D and FLOPs C.

Imports numpy and, of the house, nothing but itself; touches no file, network or clock. The way
through: `runs` (rows) -> `fit` (a law, by `screening` and `levenberg`, with its `doubts`) ->
`uncertainty` (draws of it) -> `optimum` (what to train); `frontier` beside it, from curves.

Names are imported from their modules (`from orchestrator.laws.fit import fit`): repeating them
here would hide the modules `fit` and `frontier` behind functions.
"""
