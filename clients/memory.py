"""What a client keeps from one message of a run to the next."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context

from bayfed.evaluation.checkpoint import flat, nested
from strategies.task import Params
from strategies.wire import pack, unpack

DOWNLINK, OWN, SHOWN, UPLINK = "downlink", "own", "shown", "uplink"
"""Where the memories of a client's parts stand."""
LASTING = (OWN, UPLINK)
"""Those of which a resumed run goes on; it sends all parameters anew."""


class Memory:
    """Tensors of one client in the state that Flower keeps for its node during a run.

    They are lost where the node is started anew, so nothing may depend on them being there. Of a
    client that is only played, the server has a copy for a run that is resumed.

    Args:
        context: Of the node.
        client: A simulated node may play several.
    """

    def __init__(self, context: Context, client: int) -> None:
        self._state, self._client = context.state, client

    def __getitem__(self, name: str) -> Params:
        record = self._state.get(self._key(name))
        return unpack(record) if isinstance(record, ArrayRecord) else {}

    def __setitem__(self, name: str, tensors: Params) -> None:
        key = self._key(name)
        if tensors:
            self._state[key] = pack(tensors)
        elif key in self._state:
            del self._state[key]

    @property
    def lasting(self) -> Params:
        """What a resumed run needs."""
        return flat({name: self[name] for name in LASTING})

    def restore(self, lasting: Params) -> None:
        """Go on where :attr:`lasting` was."""
        for name, tensors in nested(lasting).items():
            self[name] = tensors

    def _key(self, name: str) -> str:
        return f"{name}/{self._client}"
