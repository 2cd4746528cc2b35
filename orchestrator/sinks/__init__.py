"""Sinks: windows on a sweep. They show what the journal says, and nothing reads them back.

May import values, events, state and laws; touch network, files and screen. `mlflow` alone imports
MLflow.
"""
