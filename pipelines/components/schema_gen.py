"""SchemaGen: what images should be like, by the training split or by the user's own file."""

from pathlib import Path

from kcnn.content import sha256
from kcnn.data.validation.schema import infer_schema, read_schema
from kcnn.errors import UserError
from pipelines.artifacts.validation import ExampleStatistics, Schema
from pipelines.engine.component import Output, component


@component
def schema_gen(
    statistics: ExampleStatistics, schema: Output[Schema], schema_file: str | None = None, schema_digest: str = ""
) -> None:
    """Infer the schema, or take that of `schema_file`, whose bytes' SHA-256 is `schema_digest`."""
    if schema_file is None:
        schema.write(infer_schema(statistics.read("train")))
        return
    schema.write(read_schema(Path(schema_file)))
    if sha256(Path(schema_file)) != schema_digest:
        raise UserError(f"--schema {schema_file}: changed since the run began; run again")
