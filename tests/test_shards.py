"""How a shard is cut into inner chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cadseg.storage import layout


@given(shard=st.tuples(*[st.integers(1, 2048)] * 3))
def test_inner_chunks_divide_the_shard(shard: tuple[int, int, int]) -> None:
    """Inner chunks fill a shard without rest, and are thin only where a shard has no divisor."""
    for length, inner, target in zip(shard, layout.inner_shape(shard), layout.TARGET, strict=True):
        assert length % inner == 0
        assert inner == length or 8 <= inner <= target
