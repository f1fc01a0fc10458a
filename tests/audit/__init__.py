"""An auditor of a cloud that has come to rest: says in sentences what does not add up.

It knows nothing of Muster's code: it reads the database with plain SQL, the APIs by plain HTTP, and the machine's
kernel. So a mistake in Muster's own statements cannot hide itself here.
"""
