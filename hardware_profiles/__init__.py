"""Hardware profiles: one TOML a board, the schema that loads them, and the match of a machine with them."""
