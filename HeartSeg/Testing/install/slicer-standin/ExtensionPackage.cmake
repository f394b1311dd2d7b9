# Packaging is not part of the test.
