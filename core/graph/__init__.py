"""Which fragments touch, and how strongly: edges, and the rows of clusters that blocks hand up."""
