"""What the pass costs, what it sees and what pruning buys: `make bench`, results in docs/benchmarks.md."""
