"""`python -m data_prep.cities --out DIR`."""

import typer

from data_prep.cities.city import main

typer.run(main)
