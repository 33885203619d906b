"""``packshot category``: the commands of the catalog."""

from typing import Annotated

import typer

from packshot.cli.output import Json, backend, show, table

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
    with backend() as there:
        category = there.add_category(path, class_noun, identifier)
        show(category, as_json, lambda: f"{category.path}: callers write {category.identifier}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the catalog."""
    with backend() as there:
        summaries = there.categories()

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
    with backend() as there:
        summary = there.category(path)

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
    with backend() as there:
        category = there.retire_category(path)
        show(category, as_json, lambda: f"{category.path} is retired; {category.identifier} stays reserved")
