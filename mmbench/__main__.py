"""``python -m mmbench``."""

from mmbench.cli.app import main

if __name__ == "__main__":
    main()
