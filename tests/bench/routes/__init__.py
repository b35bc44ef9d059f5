"""What pruning buys on each route by which a graph can run."""
