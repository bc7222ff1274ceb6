"""Code that is fast because it is written for the metal, each piece with a slow, readable reference."""
