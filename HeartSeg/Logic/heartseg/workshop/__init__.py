"""Commands of those who make models: training, ablation, translation, toy data.

They are registered as entry points of the group ``heartseg.commands`` in ``pyproject.toml``; another package may add
commands in the same way. The Slicer extension does not contain this package.
"""
