"""Host for ``slicer-core``: Slicer's own scene without the application, for tests."""
