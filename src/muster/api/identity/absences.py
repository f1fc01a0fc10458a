"""What Keystone has and this cloud has not."""

from muster.api.http.absences import Absences

_FEDERATION = "federation"
_DOMAINS = "settings of single domains"
_LIMITS = "limits in the identity API; quotas are those of the compute and network APIs"

ABSENCES: Absences = {
    "/v2.0": "version 2 of the identity API; use version 3 (.../identity/v3)",
    "/v3/credentials": "kept credentials (EC2, TOTP)",
    "/v3/users/*/credentials": "kept credentials (EC2, TOTP)",
    "/v3/ec2tokens": "kept credentials (EC2, TOTP)",
    "/v3/OS-TRUST": "trusts; use an application credential",
    "/v3/OS-OAUTH1": "OAuth; use an application credential",
    "/v3/OS-OAUTH2": "OAuth; use an application credential",
    "/v3/OS-FEDERATION": _FEDERATION,
    "/v3/auth/OS-FEDERATION": _FEDERATION,
    "/v3/OS-EP-FILTER": "groups of endpoints; all projects see all endpoints",
    "/v3/OS-ENDPOINT-POLICY": "kept policies",
    "/v3/policies": "kept policies",
    "/v3/limits": _LIMITS,
    "/v3/registered_limits": _LIMITS,
    "/v3/users/*/access_rules/*": "access rules",
    "/v3/domains/*/config": _DOMAINS,
    "/v3/domains/config/*": _DOMAINS,
}
