"""Frontrunner: a live training orchestrator that estimates neural scaling laws from pruned sweeps.

Imports nothing by itself: every room is imported where it is needed, so that `frontrunner status`
never waits for torch, Ray or MLflow.
"""
