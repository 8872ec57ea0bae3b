"""`python -m unipixel eval`: `world` for the drawn world's held-out questions, `ablations`, else a data folder."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Hand the arguments to the evaluation that is meant."""
    if argv and argv[0] == "world":
        from unipixel.eval import world as chosen
    elif argv and argv[0] == "ablations":
        from unipixel.eval import ablations as chosen
    else:
        from unipixel.eval import own as chosen
    return chosen.main(argv)
