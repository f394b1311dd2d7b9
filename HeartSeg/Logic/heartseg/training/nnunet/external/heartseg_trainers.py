"""HeartSeg's trainer, where nnU-Net's own commands look for it: set ``nnUNet_extTrainer`` to this file's folder."""

from heartseg.training.nnunet.trainers import HeartSegTrainer

__all__ = ["HeartSegTrainer"]
