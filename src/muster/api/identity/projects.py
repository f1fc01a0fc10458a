"""`/v3/projects`, their tags, and `/v3/users/{user_id}/projects`."""

from collections.abc import Sequence
from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.api.identity.bodies import check, read_new, read_patch
from muster.base.errors import Invalid, NotFound
from muster.domain.attribute_filters import Listing, parse_filters, parse_flag, parse_page
from muster.domain.patches import ProjectPatch
from muster.domain.policies import Rule, allows
from muster.domain.projects import PROJECT_FILTERS, Project
from muster.domain.tag_filters import parse_tags
from muster.services.domains import Domains
from muster.services.projects import Projects, check_place
from muster.services.tokens import Tokens
from muster.services.users import Users, require_self


class ProjectsApi:
    """`/v3/projects`."""

    def __init__(self, projects: Projects, domains: Domains, tokens: Tokens, users: Users) -> None:
        self._projects = projects
        self._domains = domains
        self._tokens = tokens
        self._users = users

    async def create(self, request: Request) -> Response:
        """`POST /v3/projects`; with `is_domain` it makes a domain."""
        patch = await read_new(request, "project", ProjectPatch)
        if patch.is_domain is True:
            project = await self._domains.create(patch)
        else:
            project = await self._projects.create(request.context, patch)
        return Response({"project": views.project(request, project)}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET /v3/projects`."""
        query = dict(request.query)
        found = await self._projects.list_page(
            parse_filters(request.query, PROJECT_FILTERS, ["enabled"]),
            parse_page(request.query),
            is_domain="is_domain" in query and parse_flag(query["is_domain"]),
            tags=parse_tags(query),
        )
        return views.collection(request, "projects", found, views.project)

    async def show(self, request: Request) -> Response:
        """`GET /v3/projects/{project_id}`, with what stands above and below if asked for."""
        project = await self._projects.show(request.context, request.parameters["project_id"])
        view = views.project(request, project)
        asked = {name for name, value in request.query if parse_flag(value)}
        if {"parents_as_list", "parents_as_ids"} <= asked or {"subtree_as_list", "subtree_as_ids"} <= asked:
            raise Invalid("A tree can be had as a list or as ids, not both")
        if asked & {"parents_as_list", "parents_as_ids"}:
            view["parents"] = await self._parents(request, project, as_ids="parents_as_ids" in asked)
        if asked & {"subtree_as_list", "subtree_as_ids"}:
            view["subtree"] = await self._subtree(request, project, as_ids="subtree_as_ids" in asked)
        return Response({"project": view})

    async def _parents(self, request: Request, project: Project, *, as_ids: bool) -> Any:
        above = await self._projects.parents(project.id)
        if not as_ids:
            return await self._listed(request, [one for one in above if not one.is_domain])
        tree: dict[str, Any] | None = None
        for one in reversed(above):
            tree = {one.id: tree}
        return tree

    async def _subtree(self, request: Request, project: Project, *, as_ids: bool) -> Any:
        below = await self._projects.subtree(project.id)
        if not as_ids:
            return await self._listed(request, below)
        trees: dict[str, dict[str, Any]] = {one.id: {} for one in (project, *below)}
        for one in below:
            trees[one.parent_id or ""][one.id] = trees[one.id]
        return _leaves_as_null(trees[project.id])

    async def _listed(self, request: Request, projects: Sequence[Project]) -> Sequence[dict[str, Any]]:
        """Projects in full: as with Keystone those in which the caller has a role; for admins all."""
        if not allows(Rule.SYSTEM_READER, request.context):
            reach = await self._tokens.reach(request.context.user_id, with_disabled=True)
            mine = {one.id for one in reach.projects}
            projects = [one for one in projects if one.id in mine]
        return [{"project": views.project(request, one)} for one in projects]

    async def update(self, request: Request) -> Response:
        """`PATCH /v3/projects/{project_id}`; a domain is changed as by its own route."""
        patch = await read_patch(request, "project", ProjectPatch)
        project = await self._projects.get(request.parameters["project_id"])
        if project.is_domain:
            check_place(project, patch)
            project = await self._domains.update(project.id, patch)
        else:
            project = await self._projects.update(project.id, patch)
        return Response({"project": views.project(request, project)})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/projects/{project_id}`; a domain is deleted as by its own route."""
        project = await self._projects.get(request.parameters["project_id"])
        await (self._domains if project.is_domain else self._projects).delete(project.id)
        return Response(status=204)

    async def of_user(self, request: Request) -> Response:
        """`GET /v3/users/{user_id}/projects`: for that user and for admins."""
        user_id = request.parameters["user_id"]
        require_self(request.context, user_id, "identity:list_user_projects")
        await self._users.get(user_id)
        projects = (await self._tokens.reach(user_id, with_disabled=True)).projects
        wanted = parse_filters(request.query, ["name", "domain_id", "parent_id"], ["enabled"])
        for one in wanted:
            if one.comparator == "equals":
                projects = [project for project in projects if getattr(project, one.attribute) == one.value]
        projects.sort(key=lambda project: project.id)
        return views.collection(request, "projects", Listing(projects), views.project)

    async def tags(self, request: Request) -> Response:
        """`GET /v3/projects/{project_id}/tags`."""
        project = await self._projects.show(request.context, request.parameters["project_id"])
        return Response({"tags": project.tags, "links": views.list_links(request)})

    async def set_tags(self, request: Request) -> Response:
        """`PUT /v3/projects/{project_id}/tags`."""
        body = await request.json(dict[str, list[str]])
        check(body)
        if "tags" not in body:
            raise Invalid("'tags' is a required property")
        tags = await self._projects.set_tags(request.parameters["project_id"], body["tags"])
        return Response({"tags": tags, "links": views.list_links(request)})

    async def clear_tags(self, request: Request) -> Response:
        """`DELETE /v3/projects/{project_id}/tags`."""
        await self._projects.set_tags(request.parameters["project_id"], [])
        return Response(status=204)

    async def check_tag(self, request: Request) -> Response:
        """`GET /v3/projects/{project_id}/tags/{tag}`."""
        project = await self._projects.show(request.context, request.parameters["project_id"])
        if request.parameters["tag"] not in project.tags:
            raise NotFound(f"Could not find project tag: {request.parameters['tag']}.")
        return Response(status=204)

    async def add_tag(self, request: Request) -> Response:
        """`PUT /v3/projects/{project_id}/tags/{tag}`."""
        project_id, tag = request.parameters["project_id"], request.parameters["tag"]
        await self._projects.add_tag(project_id, tag)
        return Response(status=201, headers={"Location": f"{request.base_url}/v3/projects/{project_id}/tags/{tag}"})

    async def remove_tag(self, request: Request) -> Response:
        """`DELETE /v3/projects/{project_id}/tags/{tag}`."""
        await self._projects.remove_tag(request.parameters["project_id"], request.parameters["tag"])
        return Response(status=204)


def _leaves_as_null(tree: dict[str, Any]) -> dict[str, Any] | None:
    return {key: _leaves_as_null(inner) for key, inner in tree.items()} or None
