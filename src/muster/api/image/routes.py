"""The route table of the image API: each method and path, what answers, and who may ask.

What depends on an image's owner or visibility is checked by the services.
"""

from dataclasses import dataclass

from muster.api.http.routing import Route, Routes
from muster.api.image.files import Files
from muster.api.image.images import Images
from muster.api.image.members import Members
from muster.api.image.schemas import Info, Schemas
from muster.api.image.versions import Versions
from muster.domain.policies import Rule
from muster.services.image_members import ImageMembers
from muster.services.image_uploads import ImageUploads
from muster.services.images import ImageService

Table = dict[tuple[str, str], Route]


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the image API needs."""

    images: ImageService
    uploads: ImageUploads
    members: ImageMembers


def routes(services: Services) -> Routes:
    """The whole table."""
    return {**_discovery(), **_images(services), **_files(services), **_members(services)}


def _discovery() -> Table:
    versions, schemas, info = Versions(), Schemas(), Info()
    return {
        ("GET", "/"): Route(versions.choices, Rule.PUBLIC),
        ("GET", "/versions"): Route(versions.list, Rule.PUBLIC),
        ("GET", "/v2"): Route(versions.list, Rule.PUBLIC),
        ("GET", "/v2/schemas/image"): Route(schemas.image, Rule.AUTHENTICATED),
        ("GET", "/v2/schemas/images"): Route(schemas.images, Rule.AUTHENTICATED),
        ("GET", "/v2/schemas/member"): Route(schemas.member, Rule.AUTHENTICATED),
        ("GET", "/v2/schemas/members"): Route(schemas.members, Rule.AUTHENTICATED),
        ("GET", "/v2/info/import"): Route(info.imports, Rule.AUTHENTICATED),
        ("GET", "/v2/info/stores"): Route(info.stores, Rule.AUTHENTICATED),
    }


def _images(services: Services) -> Table:
    images = Images(services.images)
    one = "/v2/images/{image_id}"
    return {
        ("GET", "/v2/images"): Route(images.list, Rule.PROJECT_READER),
        ("POST", "/v2/images"): Route(images.create, Rule.PROJECT_MEMBER),
        ("GET", one): Route(images.show, Rule.PROJECT_READER),
        ("PATCH", one): Route(images.update, Rule.PROJECT_MEMBER),
        ("DELETE", one): Route(images.delete, Rule.PROJECT_MEMBER),
        ("POST", one + "/actions/deactivate"): Route(images.deactivate, Rule.PROJECT_MEMBER),
        ("POST", one + "/actions/reactivate"): Route(images.reactivate, Rule.PROJECT_MEMBER),
        ("PUT", one + "/tags/{tag}"): Route(images.add_tag, Rule.PROJECT_MEMBER),
        ("DELETE", one + "/tags/{tag}"): Route(images.remove_tag, Rule.PROJECT_MEMBER),
    }


def _files(services: Services) -> Table:
    files = Files(services.images, services.uploads)
    return {
        ("GET", "/v2/images/{image_id}/file"): Route(files.download, Rule.PROJECT_MEMBER),
        ("PUT", "/v2/images/{image_id}/file"): Route(files.upload, Rule.PROJECT_MEMBER),
    }


def _members(services: Services) -> Table:
    members = Members(services.members)
    all_of_them = "/v2/images/{image_id}/members"
    one = all_of_them + "/{member_id}"
    return {
        ("GET", all_of_them): Route(members.list, Rule.PROJECT_READER),
        ("POST", all_of_them): Route(members.add, Rule.PROJECT_MEMBER),
        ("GET", one): Route(members.show, Rule.PROJECT_READER),
        ("PUT", one): Route(members.update, Rule.PROJECT_MEMBER),
        ("DELETE", one): Route(members.remove, Rule.PROJECT_MEMBER),
    }
