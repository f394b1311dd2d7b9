"""Translate MR to CT and CT to MR with a CycleGAN, to add labelled MR scans to a CT training set.

Data flows through ``slices`` (volumes as stacks of 2D slices in [-1, 1]) → ``trainer`` (two generators and two
discriminators, unpaired data) → ``model`` (a folder with a card) → ``apply`` (translate a volume) → ``join`` (add it to
a training set). Translations are training data, not images for diagnosis: a translation has the appearance of CT but
does not predict the CT of this patient. Inference never imports this package, and importing it does not import torch.

Method: Zhu, Park, Isola, Efros: Unpaired image-to-image translation using cycle-consistent adversarial networks, ICCV
2017.
"""
