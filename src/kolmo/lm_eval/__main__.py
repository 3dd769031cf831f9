"""`python -m kolmo.lm_eval`: the command of lm-evaluation-harness, after kolmo's models were made known to it."""

from __future__ import annotations

from kolmo.errors import KolmoError


def main() -> None:
    """Run the harness; what is kolmo's fault or the user's is said on one line."""
    try:
        import kolmo.lm_eval.model

        kolmo.lm_eval.model.run()
    except KolmoError as error:
        raise SystemExit(f"kolmo.lm_eval: {error}") from None


if __name__ == "__main__":
    main()
