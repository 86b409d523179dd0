"""The work of step `c` in tests of the schedule."""

from functools import partial

import toy_block

run = partial(toy_block.run, "c")
