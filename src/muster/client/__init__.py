"""A user's side of any OpenStack cloud: what the benchmark and the soak share to reach it by its public APIs alone.

What belongs here: clouds.yaml and tokens, requests and the parts of answers that are read, ping and ssh, and how what a
run made is found again and removed. Nothing of Muster's own control plane is imported, so that what is found out about
Muster and about another cloud is found out by the same code.
"""
