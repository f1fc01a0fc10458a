"""HTTP faces of the services: a route table per API, parse, serialise, error mapping. No SQL, no decisions."""
