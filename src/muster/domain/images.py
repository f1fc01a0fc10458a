"""Images: their values, who may see and change them, and which changes of state there are.

Invariant: an image has content (a size, digests, a file) exactly when it is active or deactivated; content never
changes. Source of the rules: the Image service API reference, version 2.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from muster.base.errors import Conflict, Forbidden, Invalid
from muster.base.units import GIB
from muster.domain.context import Context
from muster.domain.specs import ImageSpec

HASH_ALGORITHM = "sha512"
DISK_FORMATS = ("qcow2", "raw")
CONTAINER_FORMATS = ("bare",)


class Status(StrEnum):
    """Where an image is between its record and its content."""

    QUEUED = "queued"
    SAVING = "saving"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"


#: Of images that have content.
WITH_CONTENT = (Status.ACTIVE, Status.DEACTIVATED)


class Visibility(StrEnum):
    """Who beside its owner sees an image."""

    PUBLIC = "public"
    COMMUNITY = "community"
    SHARED = "shared"
    PRIVATE = "private"


class MemberStatus(StrEnum):
    """What a project says to an image that is shared with it."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Image(Struct, frozen=True, kw_only=True):
    """An image. Sizes in bytes, `min_disk` in GiB, `min_ram` in MiB, times in Unix seconds.

    `receiver` is the machine that receives its content, while it is saving, where machines have folders of their own.
    """

    id: str
    owner: str | None
    name: str | None = None
    status: Status = Status.QUEUED
    receiver: str | None = None
    visibility: Visibility = Visibility.SHARED
    disk_format: str | None = None
    container_format: str | None = None
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    protected: bool = False
    os_hidden: bool = False
    properties: Mapping[str, str] = {}
    tags: tuple[str, ...] = ()
    created_at: float = 0.0
    updated_at: float = 0.0


class Member(Struct, frozen=True, kw_only=True):
    """A project that an image is shared with."""

    image_id: str
    member_id: str
    status: MemberStatus = MemberStatus.PENDING
    created_at: float = 0.0
    updated_at: float = 0.0


class Content(Struct, frozen=True, kw_only=True):
    """What was found out about a file while it was received."""

    size: int
    virtual_size: int
    md5: str
    sha512: str


class ImageSettings(Struct, frozen=True, kw_only=True):
    """Limits. Sizes in bytes; `project_size_limit` is what all images of a project may take, None for no limit.

    `idle_timeout_s` ends an upload whose client sends nothing any more.
    """

    size_limit: int = 1 << 40
    virtual_size_limit: int = 64 << 40
    project_size_limit: int | None = None
    property_limit: int = 128
    tag_limit: int = 128
    member_limit: int = 128
    idle_timeout_s: float = 300.0


def is_visible(image: Image, context: Context, *, is_member: bool) -> bool:
    """Whether the caller may know of the image. `is_member`: it is shared with the caller's project."""
    if is_owner(image, context) or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY):
        return True
    return image.visibility is Visibility.SHARED and is_member


def is_owner(image: Image, context: Context) -> bool:
    """Whether the caller may change the image: an admin, or somebody of the project that owns it."""
    return context.is_admin or (context.project_id is not None and image.owner == context.project_id)


def check_publishable(context: Context, visibility: Visibility) -> None:
    """Raises Forbidden when the caller may not give an image this visibility."""
    if visibility is Visibility.PUBLIC and not context.is_admin:
        raise Forbidden("You are not authorized to complete publicize_image action.")


def check_deletable(image: Image) -> None:
    """Raises Forbidden for a protected image."""
    if image.protected:
        raise Forbidden(f"Image {image.id} is protected and cannot be deleted.")


def check_shared(image: Image) -> None:
    """Raises Forbidden for an image that has no members because it is not shared."""
    if image.visibility is not Visibility.SHARED:
        raise Forbidden("Only shared images have members.")


def saving(image: Image, receiver: str | None = None) -> Image:
    """The image while its content arrives. Raises Conflict unless it waits for content, Invalid without formats."""
    if image.status is not Status.QUEUED:
        raise Conflict(f"Image status transition from {image.status} to saving is not allowed")
    missing = [name for name in ("disk_format", "container_format") if getattr(image, name) is None]
    if missing:
        raise Invalid(f"Properties {', '.join(missing)} must be set prior to saving data.")
    return replace(image, status=Status.SAVING, receiver=receiver)


def is_saving_still(image: Image | None, begun: Image) -> bool:
    """Whether an upload that has begun is under way yet. Its image may be gone, and another have the same id."""
    return image is not None and image.status is Status.SAVING and image.created_at == begun.created_at


def has_same_content(image: Image | None, known: Image) -> bool:
    """Whether an image has the content yet that it was known to have, and is not another of the same id."""
    return (
        image is not None
        and image.status in WITH_CONTENT
        and (image.created_at, image.size, image.os_hash_value) == (known.created_at, known.size, known.os_hash_value)
    )


def active(image: Image, content: Content) -> Image:
    """The image with its content."""
    return replace(
        image,
        status=Status.ACTIVE,
        receiver=None,
        size=content.size,
        virtual_size=content.virtual_size,
        checksum=content.md5,
        os_hash_algo=HASH_ALGORITHM,
        os_hash_value=content.sha512,
    )


def deactivated(image: Image) -> Image:
    """The image with its content locked away. Raises Forbidden for one without content."""
    if image.status not in WITH_CONTENT:
        raise Forbidden(f"Not allowed to deactivate image in status '{image.status}'")
    return replace(image, status=Status.DEACTIVATED)


def reactivated(image: Image) -> Image:
    """The image with its content for use again. Raises Forbidden for one without content."""
    if image.status not in WITH_CONTENT:
        raise Forbidden(f"Not allowed to reactivate image in status '{image.status}'")
    return replace(image, status=Status.ACTIVE)


def image_spec(image: Image) -> ImageSpec:
    """What a host needs to make disks of the image. Raises Invalid unless it is active.

    The smallest disk is at least as large as the disk that the image holds.
    """
    if image.status is not Status.ACTIVE:
        raise Invalid(f"Image {image.id} is not active.", code="image.not_active")
    return ImageSpec(
        id=image.id,
        disk_format=image.disk_format or "",
        size_bytes=image.size or 0,
        sha512=image.os_hash_value or "",
        min_disk_gib=max(image.min_disk, -(-(image.virtual_size or 0) // GIB)),
    )
