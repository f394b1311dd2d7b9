"""The panel of the module; ``HeartSeg.py`` contains only what Slicer's conventions require.

Two threads, told apart by module (docs/explanation/panel.md): ``worker``, ``work``, ``surfaces`` and ``process`` make
no Qt and no MRML call and belong to the worker thread; everything else belongs to the main thread.
"""
