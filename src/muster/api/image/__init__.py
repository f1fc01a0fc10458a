"""The image API, version 2: what Glance's clients speak."""
