"""Whether what stands in files is what services were started with."""

from collections.abc import Iterable

from muster.doctor.facts import Facts, Process
from muster.doctor.findings import Check, Plan, Result, advice, good, not_known
from muster.doctor.openstack import kind
from muster.doctor.texts import for_people, values

_OPENSTACK = {"nova-compute": "nova", "neutron": "neutron"}
#: Starting a service takes a while, and the kernel counts its start in hundredths of a second from the boot.
_LEEWAY_S = 5.0
#: Kolla's containers copy their settings, and only then become the program that was asked for, by the same process.
_LEEWAY_IN_CONTAINER_S = 60.0


def _check(facts: Facts, _: Plan) -> Iterable[Result]:
    found = [one for process in facts.processes for one in _since(facts, process)]
    if not facts.processes and facts.unseen:
        return not_known(facts.unseen)
    return found or good("No settings were written since the services that were found had read them")


def _since(facts: Facts, process: Process) -> list[Result]:
    """One finding for a process and all of its files."""
    began_s = process.started_s
    leeway_s = _LEEWAY_IN_CONTAINER_S if process.root else _LEEWAY_S
    late = [
        for_people(path)
        for path in _files(facts, process)
        if began_s is not None and (facts.reading(path).written_s or 0) > began_s + leeway_s
    ]
    if not late:
        return []
    names = [word.rpartition("/")[2] for word in process.argv]  # an agent's is an argument of Python
    program = next((name for name in names if name.startswith("neutron-")), process.name)
    return advice(f"{program} {process.pid} runs since before {', '.join(late)} was written", "Restart it")


def _files(facts: Facts, process: Process) -> Iterable[str]:
    """Those that it was told to read; of OpenStack's services without a word the main one, and the parts."""
    yield from process.configuration
    if process.name not in _OPENSTACK:
        return
    told = [process.root + path for path in values(process.argv, "--config-file")]
    folders = [process.root + path for path in values(process.argv, "--config-dir")]
    yield from told
    for service, all_of_it in facts.services.items():
        is_its = kind(service) == _OPENSTACK[process.name] and service.startswith("/proc/") == bool(process.root)
        if is_its and service.startswith(process.root) and not told:
            yield f"{service}/{kind(service)}.conf"
            folders += [folder for folder in all_of_it if folder.startswith(f"{service}/")]
    for folder in folders:
        yield from facts.below(folder)


CHECKS = (
    Check(
        id="settings.in-force",
        what="Settings written since their service started",
        cost="What is found in these files is not what the service does, until it is restarted",
        source="proc(5): starttime",
        run=_check,
    ),
)
