"""The work of step `d` in tests of the schedule."""

from functools import partial

import toy_block

run = partial(toy_block.run, "d")
