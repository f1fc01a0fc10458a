"""What is said once in a while and not each second, so that a night's log can be read in the morning."""

_EVERY_S = 60.0


class Complaint:
    """Something that lasts: complained about when it begins, then once a minute, until it is over."""

    def __init__(self) -> None:
        self._said_at_s: float | None = None

    def due(self, now_s: float) -> bool:
        """It still lasts; whether to say so."""
        if self._said_at_s is not None and now_s < self._said_at_s + _EVERY_S:
            return False
        self._said_at_s = now_s
        return True

    def over(self) -> bool:
        """It does not last any more; whether it did."""
        lasted, self._said_at_s = self._said_at_s is not None, None
        return lasted
