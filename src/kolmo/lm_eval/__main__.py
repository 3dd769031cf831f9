"""`python -m kolmo.lm_eval`: the command of lm-evaluation-harness, with the model `kolmo` registered."""

from __future__ import annotations

from kolmo.errors import KolmoError


def main() -> None:
    """Run the command of the harness; an error of kolmo is printed on one line."""
    try:
        import kolmo.lm_eval.model

        kolmo.lm_eval.model.run()
    except KolmoError as error:
        raise SystemExit(f"kolmo.lm_eval: {error}") from None


if __name__ == "__main__":
    main()
