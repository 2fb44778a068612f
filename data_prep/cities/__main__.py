"""`python -m data_prep.cities --out DIR`, the same as `zoomloc prep city --out DIR`."""

import sys

import typer

from data_prep.cities.city import main
from zoomloc.errors import ZoomlocError

try:
    typer.run(main)
except ZoomlocError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
