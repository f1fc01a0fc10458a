"""The database: SQL lives here and nowhere else. Statements serve SQLite and PostgreSQL alike.

A module per noun holds the noun's table and its statements. Statements take a connection and lists, never open a
transaction themselves, and never decide; services decide.
"""
