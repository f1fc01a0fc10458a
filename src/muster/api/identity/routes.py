"""The route table of the identity API: each method and path, what answers, and who may ask.

AUTHENTICATED on a path with an owner means that the service compares the caller with the owner.
"""

from msgspec import Struct

from muster.api.http.routing import Route, Routes
from muster.api.identity.application_credentials import ApplicationCredentialsApi
from muster.api.identity.assignments import Grants, RoleAssignments
from muster.api.identity.catalog import Endpoints, Regions, ServicesApi
from muster.api.identity.domains import DomainsApi
from muster.api.identity.groups import GroupsApi
from muster.api.identity.projects import ProjectsApi
from muster.api.identity.roles import RolesApi
from muster.api.identity.tokens import AuthTokens
from muster.api.identity.users import UsersApi
from muster.api.identity.versions import Versions
from muster.domain.assignments import ActorKind, TargetKind
from muster.domain.policies import Rule
from muster.services.application_credentials import ApplicationCredentials
from muster.services.assignments import Assignments
from muster.services.catalog import Catalog
from muster.services.domains import Domains
from muster.services.groups import Groups
from muster.services.projects import Projects
from muster.services.roles import Roles
from muster.services.token_authority import TokenAuthority
from muster.services.tokens import Tokens
from muster.services.users import Users

Table = dict[tuple[str, str], Route]


class Services(Struct, frozen=True, kw_only=True):
    """What the identity API needs."""

    authority: TokenAuthority
    tokens: Tokens
    domains: Domains
    projects: Projects
    users: Users
    groups: Groups
    roles: Roles
    assignments: Assignments
    application_credentials: ApplicationCredentials
    catalog: Catalog


def routes(services: Services) -> Routes:
    """The whole table. What answers GET answers HEAD too, without a body."""
    table = {
        **_versions(),
        **_auth(services),
        **_projects(services),
        **_domains(services),
        **_users(services),
        **_groups(services),
        **_roles(services),
        **_assignments(services),
        **_catalog(services),
    }
    return table | {("HEAD", path): route for (method, path), route in table.items() if method == "GET"}


def _versions() -> Table:
    versions = Versions()
    return {
        ("GET", "/"): Route(versions.all, Rule.PUBLIC),
        ("GET", "/v3"): Route(versions.v3, Rule.PUBLIC),
    }


def _auth(services: Services) -> Table:
    tokens = AuthTokens(services.tokens)
    return {
        ("POST", "/v3/auth/tokens"): Route(tokens.create, Rule.PUBLIC),
        ("GET", "/v3/auth/tokens"): Route(tokens.show, Rule.AUTHENTICATED),
        ("DELETE", "/v3/auth/tokens"): Route(tokens.delete, Rule.AUTHENTICATED),
        ("GET", "/v3/auth/projects"): Route(tokens.projects, Rule.AUTHENTICATED),
        ("GET", "/v3/auth/domains"): Route(tokens.domains, Rule.AUTHENTICATED),
        ("GET", "/v3/auth/system"): Route(tokens.system, Rule.AUTHENTICATED),
        ("GET", "/v3/auth/catalog"): Route(tokens.catalog, Rule.AUTHENTICATED),
    }


def _projects(services: Services) -> Table:
    projects = ProjectsApi(services.projects, services.domains, services.tokens, services.users)
    return {
        ("POST", "/v3/projects"): Route(projects.create, Rule.ADMIN),
        ("GET", "/v3/projects"): Route(projects.list, Rule.SYSTEM_READER),
        ("GET", "/v3/projects/{project_id}"): Route(projects.show, Rule.AUTHENTICATED),
        ("PATCH", "/v3/projects/{project_id}"): Route(projects.update, Rule.ADMIN),
        ("DELETE", "/v3/projects/{project_id}"): Route(projects.delete, Rule.ADMIN),
        ("GET", "/v3/projects/{project_id}/tags"): Route(projects.tags, Rule.AUTHENTICATED),
        ("PUT", "/v3/projects/{project_id}/tags"): Route(projects.set_tags, Rule.ADMIN),
        ("DELETE", "/v3/projects/{project_id}/tags"): Route(projects.clear_tags, Rule.ADMIN),
        ("GET", "/v3/projects/{project_id}/tags/{tag}"): Route(projects.check_tag, Rule.AUTHENTICATED),
        ("PUT", "/v3/projects/{project_id}/tags/{tag}"): Route(projects.add_tag, Rule.ADMIN),
        ("DELETE", "/v3/projects/{project_id}/tags/{tag}"): Route(projects.remove_tag, Rule.ADMIN),
        ("GET", "/v3/users/{user_id}/projects"): Route(projects.of_user, Rule.AUTHENTICATED),
    }


def _domains(services: Services) -> Table:
    domains = DomainsApi(services.domains)
    return {
        ("POST", "/v3/domains"): Route(domains.create, Rule.ADMIN),
        ("GET", "/v3/domains"): Route(domains.list, Rule.SYSTEM_READER),
        ("GET", "/v3/domains/{domain_id}"): Route(domains.show, Rule.AUTHENTICATED),
        ("PATCH", "/v3/domains/{domain_id}"): Route(domains.update, Rule.ADMIN),
        ("DELETE", "/v3/domains/{domain_id}"): Route(domains.delete, Rule.ADMIN),
    }


def _users(services: Services) -> Table:
    users = UsersApi(services.users)
    credentials = ApplicationCredentialsApi(services.application_credentials, services.authority)
    owned = "/v3/users/{user_id}/application_credentials"
    return {
        ("POST", "/v3/users"): Route(users.create, Rule.ADMIN),
        ("GET", "/v3/users"): Route(users.list, Rule.SYSTEM_READER),
        ("GET", "/v3/users/{user_id}"): Route(users.show, Rule.AUTHENTICATED),
        ("PATCH", "/v3/users/{user_id}"): Route(users.update, Rule.ADMIN),
        ("DELETE", "/v3/users/{user_id}"): Route(users.delete, Rule.ADMIN),
        ("POST", "/v3/users/{user_id}/password"): Route(users.change_password, Rule.PUBLIC),
        ("GET", "/v3/users/{user_id}/groups"): Route(users.groups, Rule.AUTHENTICATED),
        ("GET", "/v3/users/{user_id}/access_rules"): Route(credentials.access_rules, Rule.AUTHENTICATED),
        ("POST", owned): Route(credentials.create, Rule.AUTHENTICATED),
        ("GET", owned): Route(credentials.list, Rule.AUTHENTICATED),
        ("GET", owned + "/{credential_id}"): Route(credentials.show, Rule.AUTHENTICATED),
        ("DELETE", owned + "/{credential_id}"): Route(credentials.delete, Rule.AUTHENTICATED),
    }


def _groups(services: Services) -> Table:
    groups = GroupsApi(services.groups)
    return {
        ("POST", "/v3/groups"): Route(groups.create, Rule.ADMIN),
        ("GET", "/v3/groups"): Route(groups.list, Rule.SYSTEM_READER),
        ("GET", "/v3/groups/{group_id}"): Route(groups.show, Rule.SYSTEM_READER),
        ("PATCH", "/v3/groups/{group_id}"): Route(groups.update, Rule.ADMIN),
        ("DELETE", "/v3/groups/{group_id}"): Route(groups.delete, Rule.ADMIN),
        ("GET", "/v3/groups/{group_id}/users"): Route(groups.members, Rule.SYSTEM_READER),
        ("PUT", "/v3/groups/{group_id}/users/{user_id}"): Route(groups.add_member, Rule.ADMIN),
        ("GET", "/v3/groups/{group_id}/users/{user_id}"): Route(groups.check_member, Rule.AUTHENTICATED),
        ("DELETE", "/v3/groups/{group_id}/users/{user_id}"): Route(groups.remove_member, Rule.ADMIN),
    }


def _roles(services: Services) -> Table:
    roles = RolesApi(services.roles)
    return {
        ("POST", "/v3/roles"): Route(roles.create, Rule.ADMIN),
        ("GET", "/v3/roles"): Route(roles.list, Rule.SYSTEM_READER),
        ("GET", "/v3/roles/{role_id}"): Route(roles.show, Rule.SYSTEM_READER),
        ("PATCH", "/v3/roles/{role_id}"): Route(roles.update, Rule.ADMIN),
        ("DELETE", "/v3/roles/{role_id}"): Route(roles.delete, Rule.ADMIN),
        ("GET", "/v3/roles/{role_id}/implies"): Route(roles.implied, Rule.SYSTEM_READER),
        ("PUT", "/v3/roles/{role_id}/implies/{implied_id}"): Route(roles.imply, Rule.ADMIN),
        ("GET", "/v3/roles/{role_id}/implies/{implied_id}"): Route(roles.check_implies, Rule.SYSTEM_READER),
        ("DELETE", "/v3/roles/{role_id}/implies/{implied_id}"): Route(roles.stop_implying, Rule.ADMIN),
        ("GET", "/v3/role_inferences"): Route(roles.inferences, Rule.SYSTEM_READER),
    }


# Where a role can be granted, and how the path names it.
_TARGETS = {
    TargetKind.PROJECT: "projects/{project_id}",
    TargetKind.DOMAIN: "domains/{domain_id}",
    TargetKind.SYSTEM: "system",
}
_ACTORS = {ActorKind.USER: "users/{user_id}", ActorKind.GROUP: "groups/{group_id}"}


def _assignments(services: Services) -> Table:
    listing = RoleAssignments(services.assignments)
    table: Table = {("GET", "/v3/role_assignments"): Route(listing.list, Rule.SYSTEM_READER)}
    for target, place in _TARGETS.items():
        for actor, who in _ACTORS.items():
            direct = Grants(services.assignments, actor, target)
            table |= _grants(direct, f"/v3/{place}/{who}/roles", f"/v3/{place}/{who}/roles/{{role_id}}")
            if target is not TargetKind.SYSTEM:
                inherited = Grants(services.assignments, actor, target, inherited=True)
                path = f"/v3/OS-INHERIT/{place}/{who}/roles"
                one = path + "/{role_id}/inherited_to_projects"
                table |= _grants(inherited, path + "/inherited_to_projects", one)
    return table


def _grants(grants: Grants, all_of_them: str, one: str) -> Table:
    return {
        ("GET", all_of_them): Route(grants.list, Rule.SYSTEM_READER),
        ("PUT", one): Route(grants.grant, Rule.ADMIN),
        ("GET", one): Route(grants.check, Rule.SYSTEM_READER),
        ("DELETE", one): Route(grants.take_away, Rule.ADMIN),
    }


def _catalog(services: Services) -> Table:
    regions, kinds, endpoints = Regions(services.catalog), ServicesApi(services.catalog), Endpoints(services.catalog)
    return {
        ("POST", "/v3/regions"): Route(regions.create, Rule.ADMIN),
        ("GET", "/v3/regions"): Route(regions.list, Rule.AUTHENTICATED),
        ("GET", "/v3/regions/{region_id}"): Route(regions.show, Rule.AUTHENTICATED),
        ("PUT", "/v3/regions/{region_id}"): Route(regions.create, Rule.ADMIN),
        ("PATCH", "/v3/regions/{region_id}"): Route(regions.update, Rule.ADMIN),
        ("DELETE", "/v3/regions/{region_id}"): Route(regions.delete, Rule.ADMIN),
        ("POST", "/v3/services"): Route(kinds.create, Rule.ADMIN),
        ("GET", "/v3/services"): Route(kinds.list, Rule.SYSTEM_READER),
        ("GET", "/v3/services/{service_id}"): Route(kinds.show, Rule.SYSTEM_READER),
        ("PATCH", "/v3/services/{service_id}"): Route(kinds.update, Rule.ADMIN),
        ("DELETE", "/v3/services/{service_id}"): Route(kinds.delete, Rule.ADMIN),
        ("POST", "/v3/endpoints"): Route(endpoints.create, Rule.ADMIN),
        ("GET", "/v3/endpoints"): Route(endpoints.list, Rule.SYSTEM_READER),
        ("GET", "/v3/endpoints/{endpoint_id}"): Route(endpoints.show, Rule.SYSTEM_READER),
        ("PATCH", "/v3/endpoints/{endpoint_id}"): Route(endpoints.update, Rule.ADMIN),
        ("DELETE", "/v3/endpoints/{endpoint_id}"): Route(endpoints.delete, Rule.ADMIN),
    }
