"""Backends: what makes a trial run, one way of running a file.

May import values, events, pool and trainers; touches processes, GPUs and the clock. `worker` alone
calls the trainer, `ray` alone imports Ray.
"""
