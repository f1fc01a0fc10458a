"""The main job in a lab with a failure in the middle of it, judged by what knows nothing of Muster's code.

Run by `make chaos`; sizes are read from the environment (see `sizes.py`).
"""
