"""`python -m meseta` is the command line."""

from meseta.cli import main

raise SystemExit(main())
