"""``python -m densereid``."""

from densereid.pipeline.__main__ import main

if __name__ == "__main__":
    main()
