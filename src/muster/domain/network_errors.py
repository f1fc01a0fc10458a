"""Neutron's errors by name: one table from the type that clients see to our class and the words.

The code of such an error is `network.` and the type; the HTTP face shows the type and decides the status by the class.
"""

from collections.abc import Mapping

from muster.base.errors import Conflict, Exhausted, Forbidden, Invalid, MusterError, NotFound, Unsupported

CODE_PREFIX = "network."

_TABLE: Mapping[str, tuple[type[MusterError], str]] = {
    # What is not there.
    "NetworkNotFound": (NotFound, "Network {net_id} could not be found."),
    "SubnetNotFound": (NotFound, "Subnet {subnet_id} could not be found."),
    "PortNotFound": (NotFound, "Port {port_id} could not be found."),
    "SecurityGroupNotFound": (NotFound, "Security group {id} does not exist"),
    "SecurityGroupRuleNotFound": (NotFound, "Security group rule {id} does not exist"),
    "AgentNotFound": (NotFound, "Agent {id} could not be found."),
    "TagResourceNotFound": (NotFound, "Resource {resource} {resource_id} could not be found."),
    "AvailabilityZoneNotFound": (NotFound, "AvailabilityZone {availability_zone} could not be found."),
    "TagNotFound": (NotFound, "Tag {tag} could not be found."),
    # What can never be.
    "InvalidInput": (Invalid, "Invalid input for operation: {error_message}."),
    "InvalidAllocationPool": (Invalid, "The allocation pool {pool} is not valid."),
    "OutOfBoundsAllocationPool": (Invalid, "The allocation pool {pool} spans beyond the subnet cidr {subnet_cidr}."),
    "DNSNameServersExhausted": (
        Invalid,
        "Unable to complete operation for {subnet_id}. The number of DNS nameservers exceeds the limit {quota}.",
    ),
    "HostRoutesExhausted": (
        Invalid,
        "Unable to complete operation for {subnet_id}. The number of host routes exceeds the limit {quota}.",
    ),
    "InvalidSubnetServiceType": (
        Invalid,
        "Subnet service type {service_type} does not correspond to a valid device owner.",
    ),
    "SecurityGroupRuleInvalidProtocol": (
        Invalid,
        "Security group rule protocol {protocol} not supported. Only protocol values {values} and integer "
        "representations [0 to 255] are supported.",
    ),
    "SecurityGroupRuleInvalidEtherType": (
        Invalid,
        "Security group rule for ethertype '{ethertype}' not supported. Allowed values are ['IPv4', 'IPv6'].",
    ),
    "SecurityGroupProtocolRequiredWithPorts": (Invalid, "Must also specify protocol if port range is given."),
    "SecurityGroupInvalidPortRange": (Invalid, "For TCP/UDP protocols, port_range_min must be <= port_range_max"),
    "SecurityGroupInvalidPortValue": (Invalid, "Invalid value for port {port}"),
    "SecurityGroupInvalidIcmpValue": (
        Invalid,
        "Invalid value for ICMP {field} ({attr}) {value}. It must be 0 to 255.",
    ),
    "SecurityGroupMissingIcmpType": (
        Invalid,
        "ICMP code (port-range-max) {value} is provided but ICMP type (port-range-min) is missing.",
    ),
    "SecurityGroupInvalidProtocolForPort": (
        Invalid,
        "Invalid protocol {protocol} for port range, only supported for {valid_protocols}.",
    ),
    "SecurityGroupEthertypeConflictWithProtocol": (
        Invalid,
        "Invalid ethertype {ethertype} for protocol {protocol}.",
    ),
    "SecurityGroupRuleParameterConflict": (Invalid, "Conflicting value ethertype {ethertype} for CIDR {cidr}"),
    "SecurityGroupRemoteGroupAndRemoteIpPrefix": (
        Invalid,
        "Only remote_ip_prefix or remote_group_id may be provided.",
    ),
    "SecurityGroupsNotProvided": (Invalid, "Security Group or rules are not provided."),
    "SecurityGroupNotSingleGroupRules": (Invalid, "Only allowed to update rules for one security profile at a time"),
    # What the present state does not allow.
    "NetworkInUse": (
        Conflict,
        "Unable to complete operation on network {net_id}. There are one or more ports still in use on the network.",
    ),
    "NetworkMTUSubnetConflict": (Conflict, "MTU of {net_id} is not valid, subnet requires a minimum of {mtu}"),
    "SubnetInUse": (Conflict, "Unable to complete operation on subnet {subnet_id}: {reason}"),
    "TunnelIdInUse": (Conflict, "Unable to create the network. The tunnel ID {tunnel_id} is in use."),
    "NoNetworkAvailable": (Conflict, "Unable to create the network. No network segment is available for allocation."),
    "OverlappingAllocationPools": (
        Conflict,
        "Found overlapping allocation pools: {pool_1} {pool_2} for subnet {subnet_cidr}.",
    ),
    "GatewayConflictWithAllocationPools": (
        Conflict,
        "Gateway ip {ip_address} conflicts with allocation pool {pool}.",
    ),
    "InvalidSharedSetting": (
        Conflict,
        "Unable to reconfigure sharing settings for network {network}. Multiple tenants are using it.",
    ),
    "ServicePortInUse": (Conflict, "Port {port_id} cannot be deleted directly via the port API: {reason}."),
    "MacAddressInUse": (
        Conflict,
        "Unable to complete operation for network {net_id}. The mac address {mac} is in use.",
    ),
    "PortSecurityPortHasSecurityGroup": (
        Conflict,
        "Port has security group associated. Cannot disable port security or IP address until security group is "
        "removed",
    ),
    "PortSecurityAndIPRequiredForSecurityGroups": (
        Invalid,
        "Port security must be enabled and port must have an IP address in order to use security groups.",
    ),
    "AddressPairAndPortSecurityRequired": (
        Conflict,
        "Port Security must be enabled in order to have allowed address pairs on a port.",
    ),
    "AddressPairsExhausted": (Invalid, "The number of allowed address pair exceeds the maximum {quota}."),
    "PortBound": (
        Conflict,
        "Unable to complete operation on port {port_id}, port is already bound, port type: {vif_type}, "
        "old_mac {old_mac}, new_mac {new_mac}.",
    ),
    "SecurityGroupInUse": (Conflict, "Security Group {id} {reason}."),
    "SecurityGroupRuleExists": (Conflict, "Security group rule already exists. Rule id is {rule_id}."),
    "DuplicateSecurityGroupRuleInPost": (Conflict, "Duplicate Security Group Rule in POST."),
    "SecurityGroupDefaultAlreadyExists": (Conflict, "Default security group already exists."),
    "SecurityGroupCannotUpdateDefault": (Conflict, "Updating default security group not allowed."),
    "SecurityGroupCannotRemoveDefault": (Conflict, "Insufficient rights for removing default security group."),
    "InvalidQuotaValue": (
        Conflict,
        "Change would make usage less than 0 for the following resources: {unders}.",
    ),
    "OverQuota": (Exhausted, "Quota exceeded for resources: {overs}."),
    # What the caller may not do.
    "PolicyNotAuthorized": (Forbidden, "{action} is disallowed by policy"),
    "AdminRequired": (Forbidden, "User does not have admin privileges: {reason}."),
    # What is refused rather than half done.
    "HTTPNotImplemented": (Unsupported, "This cloud does not know how {what}."),
}


def network_error(kind: str, **values: object) -> MusterError:
    """The error of Neutron's type `kind`, with its message filled in."""
    error, words = _TABLE[kind]
    return error(words.format(**values), code=CODE_PREFIX + kind)


def invalid_input(reason: str) -> MusterError:
    """Neutron's InvalidInput."""
    return network_error("InvalidInput", error_message=reason)


def disallowed(action: str) -> MusterError:
    """Neutron's refusal by policy; `action` is the policy's name, such as `create_network:shared`."""
    return network_error("PolicyNotAuthorized", action=f"rule:{action}")


def bad_request(message: str) -> MusterError:
    """A request that is malformed as such."""
    return Invalid(message, code=CODE_PREFIX + "HTTPBadRequest")
