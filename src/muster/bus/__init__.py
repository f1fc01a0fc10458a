"""Messages between processes. They only wake, so an adapter (chosen by URL) may lose, double or delay them."""
