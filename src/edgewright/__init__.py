"""edgewright: a trained model goes in once; every device gets the artifact that is best for it, and proves it."""

__version__ = "0.1.0"
