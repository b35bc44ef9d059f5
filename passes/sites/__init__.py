"""Finds the materialization sites: gathers of a pool by the block table, and what brings them to BHSD."""

from passes.sites.finder import Site, SiteSearch, find_sites

__all__ = ["Site", "SiteSearch", "find_sites"]
