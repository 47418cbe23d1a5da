"""``python -m pipeline``, from the checkout."""

import sys

try:
    from densereid.pipeline.cli import main
except ModuleNotFoundError as error:  # another Python than the one of .venv
    if (error.name or "").partition(".")[0] == "densereid":
        raise
    sys.exit(
        f"error: {sys.executable} has no module {error.name}\n"
        "`make` fills .venv with all that is needed; its programs are .venv/bin/densereid and .venv/bin/python"
    )

if __name__ == "__main__":
    main()
