"""What all parts of edgewright agree on: frozen dataclasses, enumerations and errors. No IO, nothing heavy."""
