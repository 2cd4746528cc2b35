"""Train one language model, and know nothing of the house around it.

`trainers.loop.train` is the door; `python -m trainers config.yaml` opens it by hand. This file
imports nothing, so that `trainers.config`, `trainers.flops`, `trainers.quantity` and
`trainers.documents` stay free of torch.
"""
