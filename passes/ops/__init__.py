"""Facts about operators: which schema a node calls, what the call writes, what its result may alias."""
