"""Graph passes over torch.fx: find, prove and remove the dead BHSD prefix cache.

result = PrunePrefixCache(policy="conservative")(graph_module)
result.graph_module, result.modified, result.report
"""

from passes.context import TkgContext
from passes.contracts import Contract, EmptyTensor
from passes.dedup import DedupPrefixCache, DedupReport, verify_dedup
from passes.errors import DeadkvError, PruneVerificationError
from passes.pipeline import PassPipeline, PipelineResult
from passes.prune import PrunePrefixCache, PruneResult
from passes.registration import register_contract, register_marker
from passes.registry import available_passes, register_pass
from passes.report import PruneReport, SiteReport
from passes.shrink import InputMap
from passes.verify import verify_prune

__all__ = [
    "Contract",
    "DeadkvError",
    "DedupPrefixCache",
    "DedupReport",
    "EmptyTensor",
    "InputMap",
    "PassPipeline",
    "PipelineResult",
    "PrunePrefixCache",
    "PruneReport",
    "PruneResult",
    "PruneVerificationError",
    "SiteReport",
    "TkgContext",
    "available_passes",
    "register_contract",
    "register_marker",
    "register_pass",
    "verify_dedup",
    "verify_prune",
]
