"""``python -m pipeline``, from the checkout."""

from densereid.pipeline.cli import main

if __name__ == "__main__":
    main()
