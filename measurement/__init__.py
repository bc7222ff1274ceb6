"""The one way to load an artifact: in a child process, probed against its golden samples, and timed."""
