"""Images on machines with folders of their own, over PostgreSQL."""
