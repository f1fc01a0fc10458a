"""The agent on a hypervisor: compares what should be with what is and repairs the difference, in batches.

Knows only the bus and the image download; imports neither `services` nor `store`.
"""
