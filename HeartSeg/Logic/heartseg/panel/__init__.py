"""The panel: what the module's window does, apart from Slicer's conventions in ``HeartSeg.py``.

Two threads, told apart by module (docs/explanation/panel.md): ``worker``, ``work``, ``surfaces`` and ``process`` make
no Qt and no MRML call and belong to the worker thread; everything else belongs to the main thread.
"""
