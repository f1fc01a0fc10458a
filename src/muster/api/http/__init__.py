"""What the four APIs share: routing, requests and responses, bodies, errors, paging. Knows none of them."""
