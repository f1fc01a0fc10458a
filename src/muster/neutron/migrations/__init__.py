"""The driver's tables, for `neutron-db-manage` (project `muster-ipam`). Revisions only go forward."""
