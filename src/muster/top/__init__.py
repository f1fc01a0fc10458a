"""`muster top`: what a cluster's processes say of themselves, read twice and compared.

Knows only the text that Prometheus reads, so it works on any process that serves it. `scrape` reads, `rates` compares
(pure), `console` draws.
"""
