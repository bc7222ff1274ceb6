"""Command-line arguments by argparse, but for a mistake in them being an error like any other."""

from __future__ import annotations

import argparse
from typing import NoReturn

from edgewright.contracts.errors import UserError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UserErrors `arguments-wrong`; its subparsers are of this class too."""

    def error(self, message: str) -> NoReturn:
        """See argparse."""
        raise UserError("arguments-wrong", message, next_step=f"see `{self.prog} --help`")
