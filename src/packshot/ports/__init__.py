"""What the services need from the outside, one module a concern. Implementations are chosen in ``bootstrap``.

Pictures cross these borders as encoded bytes (PNG where we make them), so that no port depends on an image library.
"""

from packshot.ports.blobs import Blobs
from packshot.ports.exchange import (
    CompressedWeights,
    Compressor,
    Exporter,
    ForeignFile,
    ForeignFiles,
    ImportedWeights,
    Importer,
)
from packshot.ports.generation import ForeignGenerator, Generator, LoadedFineTune, LoadedSubject
from packshot.ports.models import BaseModels, Judge
from packshot.ports.outside import Executor, Fetcher, Poster
from packshot.ports.records import Fence, R, Record, Records, Search, Tally, Wanted
from packshot.ports.training import (
    GroupMember,
    Progress,
    Sample,
    ScoredTraining,
    Scoring,
    TrainedWeights,
    Trainer,
    TrainingExample,
    TrainingTask,
)

__all__ = [
    "BaseModels",
    "Blobs",
    "CompressedWeights",
    "Compressor",
    "Executor",
    "Exporter",
    "Fence",
    "Fetcher",
    "ForeignFile",
    "ForeignFiles",
    "ForeignGenerator",
    "Generator",
    "GroupMember",
    "ImportedWeights",
    "Importer",
    "Judge",
    "LoadedFineTune",
    "LoadedSubject",
    "Poster",
    "Progress",
    "R",
    "Record",
    "Records",
    "Sample",
    "ScoredTraining",
    "Scoring",
    "Search",
    "Tally",
    "TrainedWeights",
    "Trainer",
    "TrainingExample",
    "TrainingTask",
    "Wanted",
]
