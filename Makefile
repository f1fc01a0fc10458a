# Each target is a plain script of the same name under scripts/, which takes options; `make help` lists them.
TARGETS := install check test test-neutron test-ansible test-tempest test-rally test-gophercloud test-cloud-init chaos demo up down bench clean
.PHONY: help $(TARGETS)

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z -]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## install what Muster and its tests need: Debian packages (as root), Python packages in .venv
	@scripts/install

check: ## style, types and layers
	@scripts/check

test: ## the checks and all tests
	@scripts/test

test-neutron: ## the IPAM driver in a real Neutron, installed from PyPI in .venv-neutron: some minutes
	@scripts/test-neutron

test-ansible: ## Ansible's collection openstack.cloud, installed from PyPI in .venv-ansible, against a cloud: some minutes
	@scripts/test-ansible

test-tempest: ## Tempest's tests of identity, compute, network and image, from PyPI in .venv-tempest: half an hour
	@scripts/test-tempest

test-rally: ## Rally's scenarios for them, from PyPI in .venv-rally: ten minutes
	@scripts/test-rally

test-gophercloud: ## the Go library below Terraform's provider, from Debian: its own tests, and what the provider does; six minutes
	@scripts/test-gophercloud

test-cloud-init: ## a stock Debian cloud image with cloud-init, built here and booted as a guest: some ten minutes, as root
	@scripts/test-cloud-init

chaos: ## failures: in the middle of 2,000 creations, of idle connections, of hosts (reboots); as root, many minutes
	@scripts/chaos

demo: ## 2,000 simulated servers at once, then (as root) 10 real ones: a table and a chart
	@scripts/demo

up: ## leave a cloud running in the background, and say how to use it
	@scripts/up

down: ## stop it; its state stays
	@scripts/down

bench: ## all benchmarks, each with its yardstick in the same run: tables, and JSON under var/bench
	@scripts/bench

clean: ## remove what was built and what runs left behind: .venv, caches, var
	@scripts/clean
