"""Messages between processes. An adapter is chosen by URL; messages only wake, so an adapter may lose or double them."""
