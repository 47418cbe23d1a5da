"""``python -m densereid``."""

from densereid.pipeline.cli import main

if __name__ == "__main__":
    main()
