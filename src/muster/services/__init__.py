"""Use cases: transactions, locks, batches, the outbox. What an API can ask for is a method of a service here."""
