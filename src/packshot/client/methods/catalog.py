"""Categories, their photos, and what serves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from packshot.client.flows import Flow, Method, call, collect
from packshot.client.methods.arguments import read_files
from packshot.domain.catalog import Category
from packshot.domain.models import AliasEvent, FineTune
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.services.catalog import CategorySummary
from packshot.services.models import Lineage
from packshot.web.schemas import Alias, Page, References


class CatalogMethods:
    """Categories, their photos, and what serves."""

    @Method
    def create_category(self, path: str, *, class_noun: str, identifier: str | None = None) -> Flow[Category]:
        """Reserve a path and an identifier for a new category."""
        body = {"path": path, "class_noun": class_noun, "identifier": identifier}
        return (yield from call(Category, "POST", "/v1/categories", json=body))

    @Method
    def categories(self, query: str = "") -> Flow[list[Category]]:
        """The categories whose names contain ``query``, by path."""
        return (yield from collect(Page[Category], "/v1/categories", q=query))

    @Method
    def catalog(self) -> Flow[list[CategorySummary]]:
        """Every category, by path, with its sets, versions and what serves."""
        return (yield from collect(Page[CategorySummary], "/v1/catalog"))

    @Method
    def category(self, identifier: str) -> Flow[CategorySummary]:
        """One category with its sets, versions and what serves."""
        return (yield from call(CategorySummary, "GET", f"/v1/categories/{identifier}"))

    @Method
    def retire_category(self, identifier: str) -> Flow[Category]:
        """Take a category out of use."""
        return (yield from call(Category, "POST", f"/v1/categories/{identifier}/retire"))

    @Method
    def add_references(
        self, identifier: str, paths: Sequence[Path | str], *, source: str = "", license: str = ""
    ) -> Flow[list[ReferenceImage]]:
        """Upload photos: files, zip archives, or folders with their captions and masks. InvalidInput: none there."""
        options = {"files": read_files(paths), "data": {"source": source, "license": license}}
        return (yield from call(list[ReferenceImage], "POST", f"/v1/categories/{identifier}/references", **options))

    @Method
    def add_reference_urls(
        self,
        identifier: str,
        urls: Sequence[str],
        *,
        captions: Mapping[str, str] = MappingProxyType({}),
        source: str = "",
        license: str = "",
    ) -> Flow[list[ReferenceImage]]:
        """Have the server fetch photos; ``captions`` are by URL. Those that cannot be fetched are refused."""
        body = {"urls": list(urls), "captions": dict(captions), "source": source, "license": license}
        return (
            yield from call(list[ReferenceImage], "POST", f"/v1/categories/{identifier}/references/urls", json=body)
        )

    @Method
    def references(self, identifier: str) -> Flow[References]:
        """The curation report."""
        return (yield from call(References, "GET", f"/v1/categories/{identifier}/references"))

    @Method
    def freeze_references(self, identifier: str) -> Flow[ReferenceSet]:
        """Freeze the accepted photos into an immutable set."""
        return (yield from call(ReferenceSet, "POST", f"/v1/categories/{identifier}/references/freeze"))

    @Method
    def fine_tunes(self, category: str | None = None) -> Flow[list[FineTune]]:
        """The versions of a category, or of all, the oldest first."""
        chosen = {} if category is None else {"category": category}
        return (yield from collect(Page[FineTune], "/v1/fine-tunes", **chosen))

    @Method
    def lineage(self, image_or_fine_tune_id: str) -> Flow[Lineage]:
        """Where an image or a fine-tune comes from, back to the reference photos."""
        kind = "images" if image_or_fine_tune_id.startswith("img_") else "fine-tunes"
        return (yield from call(Lineage, "GET", f"/v1/{kind}/{image_or_fine_tune_id}/lineage"))

    @Method
    def promote(self, category: str, fine_tune_id: str, *, reason: str = "") -> Flow[AliasEvent]:
        """Put a fine-tune into service."""
        body = {"fine_tune_id": fine_tune_id, "reason": reason}
        return (yield from call(AliasEvent, "POST", f"/v1/categories/{category}/alias/promote", json=body))

    @Method
    def rollback(self, category: str, *, reason: str = "") -> Flow[AliasEvent]:
        """Put the version back into service that served before."""
        body = {"reason": reason}
        return (yield from call(AliasEvent, "POST", f"/v1/categories/{category}/alias/rollback", json=body))

    @Method
    def alias(self, category: str) -> Flow[Alias]:
        """What serves a category, and the history of that."""
        return (yield from call(Alias, "GET", f"/v1/categories/{category}/alias"))
