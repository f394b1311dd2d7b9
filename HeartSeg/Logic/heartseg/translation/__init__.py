"""MR into CT and back with a CycleGAN, so that labelled MR scans can join a CT training set.

The way through it: ``slices`` (volumes as stacks of 2D slices in [-1, 1]) → ``trainer`` (two generators, two
discriminators, unpaired) → ``model`` (a folder with a card) → ``apply`` (a volume in, a volume out) → ``join`` (into a
training set). What is made is training data, never an image to read: a translation shows what CT looks like, not what
this patient's CT would show. Nothing that segments imports this package; importing it does not import torch.

Method: Zhu, Park, Isola, Efros: Unpaired image-to-image translation using cycle-consistent adversarial networks, ICCV
2017.
"""
