"""Images on machines with folders of their own, on every database."""
