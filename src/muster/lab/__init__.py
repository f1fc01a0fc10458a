"""A whole cluster on one machine, out of real parts in network namespaces."""
