"""The identity API, version 3, as Keystone speaks it."""
