"""Assembly: picks the concrete parts that a spec names, importing each when it is needed.

For the command, the scripts and the Tune adapter. May import everything; keeps nothing. Imports
nothing by itself, so that asking for a plan never waits for torch, Ray, MLflow or matplotlib.
"""
