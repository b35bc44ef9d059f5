"""Which gathers of the case table each compiler leaves, and what it breaks."""
