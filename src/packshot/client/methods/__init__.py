"""What both clients can do, one flow per use. Knows no connection; see ``flows``."""

from packshot.client.methods.batches import BatchMethods
from packshot.client.methods.catalog import CatalogMethods
from packshot.client.methods.generation import GenerationMethods
from packshot.client.methods.operation import OperationMethods
from packshot.client.methods.training import TrainingMethods


class Methods(CatalogMethods, TrainingMethods, GenerationMethods, BatchMethods, OperationMethods):
    """Categories are named by their identifiers. Raises what ``packshot.domain.errors`` has for each refusal."""
