"""Why INT8 costs accuracy: which layers lose it, what is wrong with them, and what to do about it."""
