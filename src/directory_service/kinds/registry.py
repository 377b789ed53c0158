# SPDX-License-Identifier: Apache-2.0
"""All kinds of records, in the order in which documents and diffs have them."""

from directory_service.kinds.attachment import ATTACHMENT
from directory_service.kinds.endpoint import ENDPOINT
from directory_service.kinds.node import NODE
from directory_service.kinds.path import PATH
from directory_service.kinds.peering import PEERING
from directory_service.kinds.profile import PROFILE
from directory_service.kinds.route import ROUTE
from directory_service.kinds.rule import RULE
from directory_service.kinds.site import SITE
from directory_service.kinds.vnet import VNET

KINDS = (SITE, PATH, PROFILE, NODE, VNET, ATTACHMENT, ENDPOINT, ROUTE, RULE, PEERING)
KIND_OF = {kind.name: kind for kind in KINDS}
TYPED_BY = {kind.name: kind.to_typed if kind.reads_itself else kind.typed for kind in KINDS}  # as `typed`

FABRIC = tuple(kind for kind in KINDS if not kind.noun.of_vnet and kind is not VNET)
INSIDE = tuple(kind for kind in KINDS if kind.noun.of_vnet)  # what lives in a V-net
TOLD = tuple(kind for kind in INSIDE if kind.told is not None)  # of which nodes are told as a whole
WEIGHING = tuple(kind for kind in INSIDE if kind.weighs is not None)  # that alter all decisions of a V-net
