"""Synthetic chest images with known heart labels: shape-model hearts set into drawn or mapped trunks.

The way through it: ``hearts`` (a subject's label map, deformed and remodelled) → ``vessels`` (what the model
lacks) → ``thorax`` or ``trunk`` (what lies around) → ``scenes`` (kept on disk) → ``views`` (what a scanner and a
crop show) → ``appearance`` (grey values). Only :mod:`heartseg.training` imports this package; inference never does.
"""
