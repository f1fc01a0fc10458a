"""What a guest is told about itself: metadata documents, the config drive and the service on 169.254.169.254.

What belongs here: pure functions from a `ServerSpec` to files, and the two ways in which a guest reads them.
"""
