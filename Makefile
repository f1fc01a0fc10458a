# Each target is a script under scripts/.
.PHONY: install check test up

install:
	scripts/install

check:
	scripts/check

test:
	scripts/test

up:
	scripts/up
