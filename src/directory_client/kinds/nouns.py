# SPDX-License-Identifier: Apache-2.0
"""All kinds of records, in the order in which help lists them."""

from directory_client.kinds.attachment import ATTACHMENT
from directory_client.kinds.endpoint import ENDPOINT
from directory_client.kinds.node import NODE
from directory_client.kinds.noun import Noun
from directory_client.kinds.path import PATH
from directory_client.kinds.peering import PEERING
from directory_client.kinds.profile import PROFILE
from directory_client.kinds.route import ROUTE
from directory_client.kinds.rule import RULE
from directory_client.kinds.site import SITE
from directory_client.kinds.vnet import VNET

NOUNS = (VNET, ENDPOINT, NODE, SITE, PATH, PROFILE, RULE, ROUTE, ATTACHMENT, PEERING)
NOUN_OF = {noun.kind: noun for noun in NOUNS}
KIND_OF = {noun.plural: noun.kind for noun in NOUNS}


def find_noun(word: str) -> Noun | None:
    """Return the noun of a kind, said in the singular or the plural."""
    return NOUN_OF.get(KIND_OF.get(word, word))
