"""SchemaGen: what the training split says that images should be like, or the user's own word on it."""

from pathlib import Path

from kcnn.data import schema as schemas
from pipelines.artifacts import ExampleStatistics, Schema
from pipelines.component import Output, component


@component
def schema_gen(
    statistics: ExampleStatistics, schema: Output[Schema], schema_file: str | None = None, schema_digest: str = ""
) -> None:
    """Infers the schema, or takes that of `schema_file`; `schema_digest` tells two files of one name apart."""
    schema.write(schemas.read(Path(schema_file)) if schema_file else schemas.infer(statistics.read("train")))
