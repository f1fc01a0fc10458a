"""The period of Nova's usage audit: the last calendar month that was over at a moment."""

from datetime import datetime, timedelta


def last_month(moment: datetime) -> tuple[datetime, datetime]:
    """Begin and end of the last whole month before a moment. Raises OverflowError in the calendar's first month."""
    end = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (end - timedelta(days=1)).replace(day=1), end
