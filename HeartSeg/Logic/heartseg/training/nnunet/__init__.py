"""Training of model folders with nnU-Net v2 on labelled scans.

Requires ``pip install 'heartseg[train]'``. Inference never imports this package; the command line imports it only for
``heartseg train`` and ``heartseg ablate``. Only :mod:`.trainers` imports nnunetv2 at its top; the other modules import
it inside functions.
"""
