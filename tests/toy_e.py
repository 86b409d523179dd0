"""The work of step `e` in tests of the schedule."""

from functools import partial

import toy_block

run = partial(toy_block.run, "e")
