"""Random graphs around pools and block tables, and what must hold of every prune of every one of them."""
