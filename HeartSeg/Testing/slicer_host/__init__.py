"""A host for ``slicer-core``: Slicer's own scene without the application, for the tests."""
