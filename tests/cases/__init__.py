"""The case table: small functions around one pool and one block table, each with a twin that must stay."""
