"""The pass that gathers a pool once where the same blocks are gathered again."""

from passes.dedup.dedup import DedupPrefixCache, DedupResult
from passes.dedup.report import DedupReport
from passes.dedup.verify import verify_dedup

__all__ = ["DedupPrefixCache", "DedupReport", "DedupResult", "verify_dedup"]
