"""`python -m data_prep.cities --out DIR`, the same as `zoomloc prep city --out DIR`."""

from data_prep.cities.city import main
from data_prep.command import run

run(main)
