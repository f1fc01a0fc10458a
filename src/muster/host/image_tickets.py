"""The tickets by which a host may fetch images: the newest that the control plane sent for each."""

from collections.abc import Callable, Mapping


class ImageTickets:
    """Told by the agent, asked by the image source. May be used from one event loop only."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}
        self._ask: Callable[[], None] = lambda: None

    def ask_by(self, ask: Callable[[], None]) -> None:
        """`ask` has everything sent anew, tickets included; it is called when one that is needed is no good."""
        self._ask = ask

    def learn(self, tickets: Mapping[str, str]) -> None:
        """The control plane sent these, by image id."""
        self._held.update(tickets)

    def get(self, image_id: str) -> str | None:
        """The newest ticket for an image. Without one, it is asked for."""
        ticket = self._held.get(image_id)
        if ticket is None:
            self._ask()
        return ticket

    def refused(self, image_id: str, ticket: str) -> None:
        """That ticket is no good (any more): ask for another, unless it has come already."""
        if self._held.get(image_id) == ticket:
            del self._held[image_id]
            self._ask()
