"""bayestl: Bayesian transfer learning for the performance of DNN systems.

The public face. Every name is imported from its home when it is first used, so that
`import bayestl` costs nothing and a measuring child process never loads torch. Inside
the package nobody imports from here.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayestl import datasets as datasets
    from bayestl.acquisition.improvement import ExpectedImprovement as ExpectedImprovement
    from bayestl.acquisition.uninformed import RandomSampling as RandomSampling
    from bayestl.acquisition.variance import IntegratedVariance as IntegratedVariance
    from bayestl.acquisition.variance import PosteriorVariance as PosteriorVariance
    from bayestl.baselines.estimator import Estimator as Estimator
    from bayestl.baselines.mean import Mean as Mean
    from bayestl.baselines.ridge import RidgeInteractions as RidgeInteractions
    from bayestl.baselines.sparse_network import SparseNetwork as SparseNetwork
    from bayestl.baselines.trees import BoostedTrees as BoostedTrees
    from bayestl.baselines.trees import PooledBoostedTrees as PooledBoostedTrees
    from bayestl.baselines.trees import RandomForest as RandomForest
    from bayestl.campaign.budget import Budget as Budget
    from bayestl.campaign.campaign import Campaign as Campaign
    from bayestl.campaign.loop import resume as resume
    from bayestl.campaign.loop import run as run
    from bayestl.campaign.store import SQLiteStore as SQLiteStore
    from bayestl.campaign.survey import Survey as Survey
    from bayestl.data.designs import design as design
    from bayestl.data.environment import Environment as Environment
    from bayestl.data.measurement import Measurement as Measurement
    from bayestl.data.measurement import Metric as Metric
    from bayestl.data.measurement import Status as Status
    from bayestl.data.options import Boolean as Boolean
    from bayestl.data.options import Categorical as Categorical
    from bayestl.data.options import Integer as Integer
    from bayestl.data.options import Ordinal as Ordinal
    from bayestl.data.options import Real as Real
    from bayestl.data.readers import read_table as read_table
    from bayestl.data.readers import write_table as write_table
    from bayestl.data.sampling import candidates as candidates
    from bayestl.data.sampling import enumerate_space as enumerate_space
    from bayestl.data.sampling import sample as sample
    from bayestl.data.space import ConfigSpace as ConfigSpace
    from bayestl.data.specification import read_specification as read_specification
    from bayestl.data.table import MeasurementTable as MeasurementTable
    from bayestl.measure.function import function_runner as function_runner
    from bayestl.measure.program import ProgramRunner as ProgramRunner
    from bayestl.measure.replay import ReplayRunner as ReplayRunner
    from bayestl.measure.runner import LocalRunner as LocalRunner
    from bayestl.models.conformalized import Conformal as Conformal
    from bayestl.models.effects import option_effects as option_effects
    from bayestl.models.effects import what_changed as what_changed
    from bayestl.models.gp import LMCGP as LMCGP
    from bayestl.models.gp import MultiTaskGP as MultiTaskGP
    from bayestl.models.gp import TargetOnlyGP as TargetOnlyGP
    from bayestl.models.persistence import load as load
    from bayestl.models.sequential.sequential_gp import SequentialGP as SequentialGP
    from bayestl.models.sklearn_regressor import TransferRegressor as TransferRegressor
    from bayestl.models.transfer_gp import TransferGP as TransferGP
    from bayestl.study.comparison import compare as compare
    from bayestl.study.linting import lint as lint
    from bayestl.study.method import Active as Active
    from bayestl.study.method import Designed as Designed
    from bayestl.study.method import InOrder as InOrder
    from bayestl.study.method import Method as Method
    from bayestl.study.scenario import RecordedScenario as RecordedScenario
    from bayestl.study.study import Results as Results
    from bayestl.study.study import Study as Study
    from bayestl.transfer.bellwether import Bellwether as Bellwether
    from bayestl.transfer.guided_sampling import GuidedSampling as GuidedSampling
    from bayestl.transfer.model_shift import DirectTransfer as DirectTransfer
    from bayestl.transfer.model_shift import LinearShift as LinearShift
    from bayestl.transfer.model_shift import NonlinearShift as NonlinearShift
    from bayestl.transfer.model_shift import OffsetShift as OffsetShift
    from bayestl.transfer.sequential_network import (
        SequentialMetaLearning as SequentialMetaLearning,
    )
    from bayestl.transfer.source_ensemble import RankingWeightedEnsemble as RankingWeightedEnsemble
    from bayestl.transfer.source_values import SourceValuesRidge as SourceValuesRidge

_HOMES = {
    "Active": "study.method",
    "Bellwether": "transfer.bellwether",
    "Boolean": "data.options",
    "BoostedTrees": "baselines.trees",
    "Budget": "campaign.budget",
    "Campaign": "campaign.campaign",
    "Categorical": "data.options",
    "ConfigSpace": "data.space",
    "Conformal": "models.conformalized",
    "Designed": "study.method",
    "DirectTransfer": "transfer.model_shift",
    "Environment": "data.environment",
    "Estimator": "baselines.estimator",
    "ExpectedImprovement": "acquisition.improvement",
    "InOrder": "study.method",
    "Integer": "data.options",
    "IntegratedVariance": "acquisition.variance",
    "GuidedSampling": "transfer.guided_sampling",
    "LMCGP": "models.gp",
    "LinearShift": "transfer.model_shift",
    "LocalRunner": "measure.runner",
    "Mean": "baselines.mean",
    "Measurement": "data.measurement",
    "MeasurementTable": "data.table",
    "Method": "study.method",
    "Metric": "data.measurement",
    "MultiTaskGP": "models.gp",
    "NonlinearShift": "transfer.model_shift",
    "OffsetShift": "transfer.model_shift",
    "Ordinal": "data.options",
    "PooledBoostedTrees": "baselines.trees",
    "PosteriorVariance": "acquisition.variance",
    "ProgramRunner": "measure.program",
    "RandomForest": "baselines.trees",
    "RandomSampling": "acquisition.uninformed",
    "RankingWeightedEnsemble": "transfer.source_ensemble",
    "Real": "data.options",
    "RecordedScenario": "study.scenario",
    "ReplayRunner": "measure.replay",
    "Results": "study.study",
    "RidgeInteractions": "baselines.ridge",
    "SQLiteStore": "campaign.store",
    "SourceValuesRidge": "transfer.source_values",
    "SparseNetwork": "baselines.sparse_network",
    "Status": "data.measurement",
    "Study": "study.study",
    "Survey": "campaign.survey",
    "TargetOnlyGP": "models.gp",
    "SequentialGP": "models.sequential.sequential_gp",
    "SequentialMetaLearning": "transfer.sequential_network",
    "TransferGP": "models.transfer_gp",
    "TransferRegressor": "models.sklearn_regressor",
    "candidates": "data.sampling",
    "compare": "study.comparison",
    "design": "data.designs",
    "enumerate_space": "data.sampling",
    "function_runner": "measure.function",
    "lint": "study.linting",
    "load": "models.persistence",
    "option_effects": "models.effects",
    "read_specification": "data.specification",
    "read_table": "data.readers",
    "resume": "campaign.loop",
    "run": "campaign.loop",
    "sample": "data.sampling",
    "what_changed": "models.effects",
    "write_table": "data.readers",
}

__version__ = version("bayestl")
__all__ = ["__version__", "datasets", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "datasets":
        return import_module("bayestl.datasets")
    if name not in _HOMES:
        raise AttributeError(f"module 'bayestl' has no attribute {name!r}")
    return getattr(import_module(f"bayestl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), "datasets", *_HOMES])
