"""Parameters of a run.

sections     every parameter, with its default and bounds
parameters   all of them from files and command lines, and the words of their errors
no_effect    settings that change nothing beside others: refused
yaml_values  nested mappings in YAML, unchecked
"""

from mipp.config.parameters import (
    WRITTEN,
    dump_params,
    dump_results,
    load_params,
    parse_params,
    parse_section,
    require_one_machine,
    write_params,
)
from mipp.config.sections import (
    ChooseConfig,
    ComputeConfig,
    DataConfig,
    EstimateConfig,
    EvaluateConfig,
    ExtractConfig,
    FinetuneConfig,
    ModelConfig,
    OptimConfig,
    Params,
    PruneConfig,
    ReportConfig,
    Section,
    TrackingConfig,
    TrainConfig,
)

__all__ = [
    "WRITTEN",
    "ChooseConfig",
    "ComputeConfig",
    "DataConfig",
    "EstimateConfig",
    "EvaluateConfig",
    "ExtractConfig",
    "FinetuneConfig",
    "ModelConfig",
    "OptimConfig",
    "Params",
    "PruneConfig",
    "ReportConfig",
    "Section",
    "TrackingConfig",
    "TrainConfig",
    "dump_params",
    "dump_results",
    "load_params",
    "parse_params",
    "parse_section",
    "require_one_machine",
    "write_params",
]
