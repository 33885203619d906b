"""``packshot category``: the commands of the catalog."""

from typing import Annotated

import typer

from packshot.cli.output import Json, operator, show, table, workspace

app = typer.Typer(no_args_is_help=True, help="Add, list and retire product categories.")

Path_ = Annotated[str, typer.Argument(metavar="PATH", help="For example produce/apple/honeycrisp.")]


@app.command()
def add(
    path: Path_,
    class_noun: Annotated[str, typer.Option(help="The plain word for the product's class, for example apple.")],
    identifier: Annotated[str | None, typer.Option(help="What callers write; derived when not given.")] = None,
    as_json: Json = False,
) -> None:
    """Reserve a path and an identifier for a new category."""
    from packshot.services.catalog import add_category

    with workspace() as space:
        category = add_category(
            space.records,
            path=path,
            class_noun=class_noun,
            identifier=identifier,
            namespace=space.settings.namespace,
        )
        show(category, as_json, lambda: f"{category.path}: callers write {category.identifier}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the catalog."""
    from packshot.services.catalog import list_categories

    with workspace() as space:
        summaries = list_categories(space.records, space.settings.namespace)

        def text() -> str:
            if not summaries:
                return "no category yet; add one with: packshot category add PATH --class-noun NOUN"
            return table(
                ["path", "identifier", "class noun", "photos", "set", "versions", "serving"],
                [
                    [
                        each.category.path + (" (retired)" if each.category.retired_at else ""),
                        each.category.identifier,
                        each.category.class_noun,
                        each.num_references,
                        each.newest_set.version if each.newest_set else "-",
                        len(each.fine_tunes),
                        each.serving_version or "-",
                    ]
                    for each in summaries
                ],
            )

        show(summaries, as_json, text)


@app.command("show")
def show_(path: Path_, as_json: Json = False) -> None:
    """Show one category: its identifier, photos, versions and what serves."""
    from packshot.services.catalog import category_at, summarise

    with workspace() as space:
        summary = summarise(space.records, category_at(space.records, path, space.settings.namespace))

        def text() -> str:
            category, newest = summary.category, summary.newest_set
            versions = [
                f"  {each.version}  {each.method}  {each.created_at:%Y-%m-%d %H:%M}" for each in summary.fine_tunes
            ]
            return "\n".join(
                [
                    f"path        {category.path}{' (retired)' if category.retired_at else ''}",
                    f"identifier  {category.identifier}",
                    f"class noun  {category.class_noun}",
                    f"photos      {summary.num_references} accepted, {summary.num_refused} refused",
                    f"set         {f'version {newest.version}, {newest.digest[:12]}' if newest else 'none frozen'}",
                    f"serving     {f'version {summary.serving_version}' if summary.serving_version else 'nothing'}",
                    "versions" + ("" if versions else "    none"),
                    *versions,
                ]
            )

        show(summary, as_json, text)


@app.command()
def retire(path: Path_, as_json: Json = False) -> None:
    """Take a category out of use; its identifier is never given to another."""
    from packshot.domain.access import AuditAction
    from packshot.services.audit import audited
    from packshot.services.catalog import retire_category

    with workspace() as space:
        team = space.settings.namespace
        with audited(space.records, operator(), AuditAction.RETIRE, namespace=team, subject=path):
            category = retire_category(space.records, path, team)
        show(category, as_json, lambda: f"{category.path} is retired; {category.identifier} stays reserved")
