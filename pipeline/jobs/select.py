"""select: verdicts from stored signals; a changed threshold reruns this and nothing before it."""

from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs
from corpusmill.pipeline.stages import rules, selection
from corpusmill.pipeline.stages.selection import Selection
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import read_table
from corpusmill.schemas.recipe import Language, Quality
from corpusmill.schemas.tables import DOCUMENT, REFINED, VERDICT

__all__ = ["Select"]

STAGE_VERSION = [1, rules.STAGE_VERSION]


class Select:
    """One task a unit: `verdicts/`."""

    name = "select"
    heavy = False
    folders: tuple[str, ...] = ("verdicts",)

    def tasks(self, run: RunState) -> list[Task]:
        """Tasks in plan order, on top of extract and refine."""
        recipe = run.recipe
        chosen = selection.resolve_rules(recipe.quality)
        values = {"language": recipe.language.model_dump(exclude={"model"}), "rules": selection.describe(chosen)}
        spec = {
            "language": recipe.language.model_dump(mode="json"),
            "quality": recipe.quality.model_dump(mode="json"),
        }
        return [
            Task(
                job=self.name,
                unit=unit,
                fingerprint=fingerprint(
                    self.name, STAGE_VERSION, values, [commit.digest, run.commits["refine"][unit].digest]
                ),
                spec=spec,
                cost=commit.counts["documents"] * 1e-5,
            )
            for unit, commit in run.commits["extract"].items()
        ]

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Read what is stored about the documents of a unit, judge, commit."""
        chosen = Selection(
            language=Language.model_validate(task.spec["language"]),
            rules=selection.resolve_rules(Quality.model_validate(task.spec["quality"])),
        )
        with watch("read"):
            documents = read_table(
                files, f"documents/{task.unit}.parquet", DOCUMENT, ["id", "language", "language_score"]
            )
            needed = ["n_chars", *dict.fromkeys(rule.signal for rule in chosen.rules if rule.signal != "n_chars")]
            refined = read_table(files, f"refined/{task.unit}.parquet", REFINED, needed)
        with watch("select"):
            verdicts = selection.select(documents, refined, chosen)
        with outputs(files, self.name, task.unit, watch) as out:
            out.table(f"verdicts/{task.unit}.parquet", VERDICT).write(verdicts)
            kept = verdicts.column("keep").to_pylist().count(True)
            out.commit(task.fingerprint, {"documents": verdicts.num_rows, "kept": kept})
