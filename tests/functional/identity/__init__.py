"""The identity API, driven in process."""
