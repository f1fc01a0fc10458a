"""Distributed locks. A lock only keeps others from wasting work; what makes a result true is the store's commit."""
