"""What is known of the items of a trained recommender, counted on its training rows."""

from recsys.catalogue import Catalogue
from recsys.cooccurrence import CooccurrencePrior
from recsys.data import InteractionDataModule
from recsys.item_rewards import ItemWorld
from recsys.load import LoadedRecommender


def item_world(loaded: LoadedRecommender, catalogue: Catalogue) -> ItemWorld:
    """Texts of the catalogue, with popularity and co-occurrence of the training interactions.

    Args:
        loaded: The recommender, whose tables are counted.
        catalogue: Its items, with texts where there are some.
    """
    prior = CooccurrencePrior(catalogue.item_count)
    rows = InteractionDataModule(
        loaded.paths["tables"], rows="sequences", maximum_history=loaded.maximum_history
    )
    prior.survey(rows.every_training_row())
    return ItemWorld.of(catalogue, prior)
