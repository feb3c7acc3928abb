"""A network without its early exits, as a graph is made of it: every clip goes to the end."""

from __future__ import annotations

import dataclasses

from vidray.models.folder import DeepModel
from vidray.models.networks.build import build
from vidray.models.networks.exits import ExitNetwork


def whole(model: DeepModel) -> DeepModel:
    """The model without exits, in its model.json, too; itself if it has none."""
    if not isinstance(model.network, ExitNetwork):
        return model
    settings = {name: value for name, value in model.info["network"].items() if name != "exits"}
    info = {name: value for name, value in model.info.items() if name != "exits"}
    built = build(**settings, weights="none")
    own = built.network.state_dict()
    state = model.network.state_dict()
    built.network.load_state_dict({name: state[name] for name in own})
    return dataclasses.replace(
        model,
        network=built.network.eval(),
        head=built.head,
        exits=None,
        info={**info, "network": settings},
    )
