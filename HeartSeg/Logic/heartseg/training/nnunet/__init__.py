"""Training with nnU-Net v2 on labelled scans: data sets in, model folders out.

Needs ``pip install 'heartseg[train]'``. Nothing that segments imports this package; the command line imports it when
``heartseg train`` or ``heartseg ablate`` is called. nnunetv2 itself is imported by :mod:`.trainers` alone at its top,
and by the others inside the functions that use it.
"""
