"""`python -m zoomloc` is the `zoomloc` command."""

from zoomloc.cli import main

main()
