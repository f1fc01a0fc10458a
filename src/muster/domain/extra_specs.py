"""Extra specs of flavors: which keys may be, and from 2.86 on which values known keys take. Pure.

A namespace that Nova knows takes only keys that it knows; keys outside of any are an operator's own. Source: Nova's
`nova/api/validation/extra_specs` and its reference of flavors.
"""

import re
from collections.abc import Mapping

from muster.base.errors import Invalid

KEY = re.compile(r"[A-Za-z0-9_:.-]{1,255}")
VALUE_LIMIT = 255

_ANY = r".*"
_TEXT = r".+"
_NUMBER = r"[0-9]+"
_SIGNED = r"-?[0-9]+"
_TRUTH = r"(?i:t|true|f|false|on|off|yes|no|y|n|0|1)"

# Names and values, both patterns for the whole text.
_KNOWN: Mapping[str, str] = {
    r"hw:cpu_policy": "dedicated|shared|mixed",
    r"hw:cpu_thread_policy": "prefer|isolate|require",
    r"hw:(cpu_realtime|boot_menu|mem_encryption|vif_multiqueue_enabled|hide_hypervisor_id|locked_memory)": _TRUTH,
    r"hw:(ephemeral_encryption|virtio_packed_ring)": _TRUTH,
    r"hw:(cpu_realtime_mask|cpu_dedicated_mask|pmem)": _TEXT,
    r"hw:emulator_threads_policy": "isolate|share",
    r"hw:cpu_(max_)?(sockets|cores|threads)": _NUMBER,
    r"hw:numa_(nodes|mem\.[0-9]+)": _NUMBER,
    r"hw:numa_cpus\.[0-9]+": r"[0-9,^-]+",
    r"hw:mem_page_size": r"small|large|any|[0-9]+([kKMG]i?([bB]|bit)?)?",
    r"hw:pci_numa_affinity_policy": "required|preferred|legacy|socket",
    r"hw:watchdog_action": "none|pause|poweroff|reset|disabled",
    r"hw:(tpm_version)": r"1\.2|2\.0",
    r"hw:(tpm_model)": "tpm-tis|tpm-crb",
    r"hw:(input_bus)": "usb|virtio",
    r"hw:(viommu_model)": "intel|smmuv3|virtio|auto",
    r"hw:(ephemeral_encryption_format)": "luks",
    r"hw:(maxphysaddr_mode)": "passthrough|emulate",
    r"hw:(maxphysaddr_bits)": _NUMBER,
    r"hw_rng:allowed": _TRUTH,
    r"hw_rng:rate_(bytes|period)": _NUMBER,
    r"hw_video:ram_max_mb": _NUMBER,
    r"os:secure_boot": "required|disabled|optional",
    r"quota:(cpu|memory|disk_io|vif)_(limit|reservation|shares_level|shares_share)": _TEXT,
    r"quota:cpu_(shares|period)": _NUMBER,
    r"quota:cpu_quota": _SIGNED,
    r"quota:disk_(read|write|total)_(bytes|iops)_sec(_max)?": _NUMBER,
    r"quota:vif_(in|out)bound_(average|peak|burst)": _NUMBER,
    r"resources[A-Za-z0-9_-]{0,64}:[A-Z0-9_]+": _NUMBER,
    r"trait[A-Za-z0-9_-]{0,64}:[A-Z0-9_]+": "required|forbidden",
    r"group_policy": "none|isolate",
    r"accel:device_profile": _TEXT,
    r"pci_passthrough:alias": _TEXT,
    r"(aggregate_instance_extra_specs|capabilities|powervm|vmware):.+": _ANY,
}
_KNOWN_NAMESPACE = re.compile(r"hw|hw_rng|hw_video|os|quota|resources[\w-]*|trait[\w-]*|accel|pci_passthrough")
_PATTERNS = [(re.compile(name), re.compile(value)) for name, value in _KNOWN.items()]


def check_form(specs: Mapping[str, str]) -> None:
    """Raises Invalid for a key or a value that no flavor has, in any version."""
    for key, value in specs.items():
        if KEY.fullmatch(key) is None:
            raise Invalid(f"Invalid input for field/attribute extra_specs. Value: {key[:80]}. It is no valid key.")
        if len(value) > VALUE_LIMIT or "\x00" in value:
            raise Invalid(f"Invalid input for field/attribute {key}. It may have {VALUE_LIMIT} characters.")


def check_known(specs: Mapping[str, str]) -> None:
    """Raises Invalid for a key that its namespace does not have, or a value that its key does not take."""
    for key, value in specs.items():
        pattern = next((values for names, values in _PATTERNS if names.fullmatch(key)), None)
        if pattern is not None:
            if pattern.fullmatch(value) is None:
                raise Invalid(f"Validation failed; '{value}' is not a value of extra spec '{key}'.")
        elif _KNOWN_NAMESPACE.fullmatch(key.partition(":")[0]) and ":" in key:
            raise Invalid(f"Validation failed; extra spec '{key}' does not appear to be a valid extra spec.")
